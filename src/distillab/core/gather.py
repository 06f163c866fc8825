"""One batch over all devices: a gather through which gradients flow."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

Key = TypeVar("Key")


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back to where each row came from.

    Each process that reads the gathered rows adds to a row's gradient, and DDP takes the mean over processes: a loss
    over the global batch, computed by all of them, gives the parameters the gradient of one process with that batch.
    From (n, …), where n may differ between processes, to (N, …), N the sum of all n; with one process x itself.
    """
    return _Gather.apply(x) if _many() else x


def mean_over_devices(tensors: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    """Each tensor's mean over all processes, which must have the same keys in the same order; carries no gradient."""
    if not tensors or not _many():
        return dict(tensors)
    flat = torch.cat([x.detach().flatten() for x in tensors.values()])  # one message, not one for each tensor
    distributed.all_reduce(flat)
    parts = (flat / distributed.get_world_size()).split([x.numel() for x in tensors.values()])
    return {key: part.view_as(x) for (key, x), part in zip(tensors.items(), parts, strict=True)}


def broadcast(number: int, device: torch.device) -> int:
    """The first process's whole number, through this device, which one process alone does not wait for."""
    return int(gather(torch.tensor([number], device=device))[0]) if _many() else number


def mean_number(number: float | Tensor, device: torch.device) -> float | Tensor:
    """A number's mean over all processes, on this device; the number itself where there is one process."""
    return (
        mean_over_devices({"": torch.as_tensor(number, dtype=torch.float32, device=device)})[""] if _many() else number
    )


def _many() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(distributed.get_world_size())]
        distributed.all_gather(counts, torch.tensor([len(x)], device=x.device))
        ctx.counts = [int(count) for count in counts]
        padded = x.new_zeros(max(ctx.counts), *x.shape[1:])  # all processes must send one shape
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
