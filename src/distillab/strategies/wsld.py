"""Weighted soft labels: a sample counts less where the student already knows it better (arXiv 2102.00650)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, mean_of_rows, widened

__all__ = ["wsld"]


@mean_of_rows(positive=("temperature",))
def wsld(s: Tensor, t: Tensor, y: Tensor, temperature: float = 2.0) -> Tensor:
    """T² · w · cross-entropy of softmax(s / T) to softmax(t / T), mean over the batch (Zhou et al., arXiv 2102.00650).

    w = 1 − exp(−CE(s, y) / (CE(t, y) + 1e-7)) of each sample is a constant: no gradient flows through it. Logits s, t
    (N, C), labels y (N,), T > 0.
    """
    s, t = widened(s, t)
    student_ce, teacher_ce = (F.cross_entropy(z, y, reduction="none") for z in (s.detach(), t))
    weights = -torch.expm1(-student_ce / (teacher_ce + 1e-7))
    soft = F.cross_entropy(s / temperature, (t / temperature).softmax(-1), reduction="none")
    return temperature**2 * weights * soft


class WSLD(LogitsTerm, loss=wsld):
    needs = (*LogitsTerm.needs, "batch.labels")
    soft_labels = True
    weight: Scheduled = 2.25
    temperature: Scheduled = 4.0
