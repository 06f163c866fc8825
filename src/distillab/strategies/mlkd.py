"""Multi-level logit distillation: each sample, the batch's relations and the classes' (Jin, Wang, Lin, CVPR 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.kd import kd
from distillab.strategies.parts.features import inner
from distillab.strategies.parts.logits import check_logits, widened

__all__ = ["batch_gram", "class_gram"]


def probabilities(s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Softened probabilities of both sides, from checked logits."""
    check_logits(s, t, temperature=temperature)
    s, t = widened(s, t)
    return (s / temperature).softmax(-1), (t / temperature).softmax(-1)


def gram_distance(q: Tensor, p: Tensor) -> Tensor:
    """Squared difference of the Gram matrices of the rows, summed."""
    return (inner(p, p) - inner(q, q)).square().sum()


def batch_gram(s: Tensor, t: Tensor, temperature: float = 4.0) -> Tensor:
    """Squared difference of the (B, B) Gram matrices of probabilities at T > 0, summed, over B; no T² (CVPR 2023)."""
    q, p = probabilities(s, t, temperature)
    return gram_distance(q, p) / len(s)


def class_gram(s: Tensor, t: Tensor, temperature: float = 4.0) -> Tensor:
    """Squared difference of the (C, C) Gram matrices of probabilities at T > 0, summed, over C; no T² (CVPR 2023)."""
    q, p = probabilities(s, t, temperature)
    return gram_distance(q.T, p.T) / s.shape[1]


class MultiTemperature(Term):
    """A `loss` of logits (B, C), summed over the weak and the strong view and over temperatures above 0."""

    needs = ("student.logits", "teacher.logits")
    num_views = 2

    def __init__(self, weight: Scheduled = 0.9, temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0)) -> None:
        super().__init__(weight)
        self.temperatures = [self.number("temperatures", t, above=0) for t in temperatures]
        if not self.temperatures:
            raise UserError("temperatures must be numbers above 0, e.g. [2, 3, 4, 5, 6], got none")

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        pairs = [(student[view].logits, teacher[view].logits) for view in (0, 1)]
        return torch.stack([self.loss(s, t, temperature) for s, t in pairs for temperature in self.temperatures]).sum()


class InstanceAlignment(MultiTemperature, loss=kd):
    """`kd` at several temperatures."""


class BatchAlignment(MultiTemperature, loss=batch_gram):
    global_batch = True


class ClassAlignment(MultiTemperature, loss=class_gram):
    global_batch = True
