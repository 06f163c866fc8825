"""Adaptive KL: forward and reverse KL by where the two models differ, in the head or the tail (arXiv 2404.02657)."""

import torch
from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, log_softened, mean_of_rows

__all__ = ["akl"]


@mean_of_rows(positive=("mu", "temperature"), below={"mu": 1})
def akl(s: Tensor, t: Tensor, mu: float = 0.5, temperature: float = 1.0) -> Tensor:
    """T² · (h · KL(p ‖ q) + (1 − h) · KL(q ‖ p)), mean over the batch (Wu et al., arXiv 2404.02657).

    p = softmax(t / T), q = softmax(s / T) of logits (N, C). h is the head's share of Σ |p − q|, held constant; the head
    are the teacher's likeliest classes whose probabilities sum to μ at most, and the first in any case. 0 < μ < 1.
    """
    log_q, log_p = log_softened(s, t, temperature)
    head = head_share(log_q.detach().exp(), log_p.exp(), mu)
    return temperature**2 * (head * kl(log_p, log_q) + (1 - head) * kl(log_q, log_p))


def head_share(q: Tensor, p: Tensor, mu: float) -> Tensor:
    """The head's share of Σ |p − q| of each row, 1 where they are equal: (N, C), (N, C) → (N,)."""
    likeliest, order = p.sort(dim=-1, descending=True, stable=True)
    head = likeliest.cumsum(-1) <= mu
    head[:, 0] = True
    gaps = (p - q).abs().gather(-1, order)
    total = gaps.sum(-1)
    return torch.where(total > 0, (gaps * head).sum(-1) / total.clamp(min=torch.finfo(p.dtype).tiny), 1.0)


class AKL(LogitsTerm, loss=akl):
    above = {"mu": 0}
    below = {"mu": 1}

    weight: Scheduled = 0.5
    mu: Scheduled = 0.5
    temperature: Scheduled = 1.0
