"""Probabilistic knowledge transfer: similarities as distributions (Passalis, Tefas, arXiv 1803.10837)."""

import torch
from torch import Tensor

from distillab.strategies.base import Scheduled, Term
from distillab.strategies.parts.features import checked, inner

__all__ = ["pkt"]


def similarities(e: Tensor, eps: float) -> Tensor:
    """Rows of (1 + cosine similarity) / 2, each summing to 1: (N, d) → (N, N)."""
    squared = e.square().sum(1, keepdim=True)
    direction = e / (torch.where(squared > 0, squared, 1).sqrt() + eps)
    similarity = (1 + inner(direction, direction)) / 2
    return similarity / similarity.sum(1, keepdim=True)


def pkt(e_s: Tensor, e_t: Tensor, eps: float = 1e-7) -> Tensor:
    """Mean of P_t·log(P_t / P_s), P = (1 + cosine similarity) / 2 with rows that sum to 1 (arXiv 1803.10837).

    The mean is over all N² pairs of embeddings (N, d) and shrinks as 1 / N; eps is added to probabilities and norms.
    """
    e_s, e_t = checked("N, d", e_s=e_s, e_t=e_t.detach())
    P_s, P_t = similarities(e_s, eps), similarities(e_t, eps)
    return (P_t * ((P_t + eps) / (P_s + eps)).log()).mean()


class PKT(Term, loss=pkt):
    needs = ("student.embedding", "teacher.embedding")
    global_batch = True
    weight: Scheduled = 30000.0
