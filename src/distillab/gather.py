"""One batch over all devices: a gather through which gradients flow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back to where each row came from.

    Each process that reads the gathered rows adds to a row's gradient, and DDP takes the mean over processes: a loss
    over the global batch, computed by all of them, gives the parameters the gradient of one process with that batch.

    Args:
        x: (n, …); n may differ between processes, the rest may not.

    Returns:
        (N, …), N the sum of all n; `x` itself where there is one process.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return x
    return _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(distributed.get_world_size())]
        distributed.all_gather(counts, torch.tensor([len(x)], device=x.device))
        ctx.counts = [int(count) for count in counts]
        # All processes must send one shape.
        padded = x.new_zeros(max(ctx.counts), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in ctx.counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        start = sum(ctx.counts[: distributed.get_rank()])
        return total[start : start + ctx.rows]
