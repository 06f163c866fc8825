"""Multi-level logit distillation: each sample, the batch's relations and the classes' (Jin, Wang, Lin, CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.kd import kd
from distillab.strategies.parts.features import inner
from distillab.strategies.parts.logits import check, widened

__all__ = ["batch_gram", "class_gram"]


def probabilities(s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Softened probabilities of both sides, checked, in float32 or wider; none of the teacher's carry gradient."""
    check(s, t, temperature=temperature)
    s, t = widened(s, t)
    return (s / temperature).softmax(-1), (t / temperature).softmax(-1)


def gram_distance(q: Tensor, p: Tensor) -> Tensor:
    """Squared difference of the Gram matrices of the rows, summed."""
    return (inner(p, p) - inner(q, q)).square().sum()


def batch_gram(s: Tensor, t: Tensor, temperature: float = 4.0) -> Tensor:
    """Squared difference of the sample-by-sample Gram matrices of softened probabilities, summed, over B (CVPR 2023).

    Args:
        s: student logits (B, C).
        t: teacher logits (B, C); receives no gradient.
        temperature: T > 0; the value is not multiplied by T².
    """
    q, p = probabilities(s, t, temperature)
    return gram_distance(q, p) / len(s)


def class_gram(s: Tensor, t: Tensor, temperature: float = 4.0) -> Tensor:
    """Squared difference of the class-by-class Gram matrices of softened probabilities, summed, over C (CVPR 2023).

    Args:
        s: student logits (B, C).
        t: teacher logits (B, C); receives no gradient.
        temperature: T > 0; the value is not multiplied by T².

    Returns:
        A scalar, in float32 or wider; it grows as B².
    """
    q, p = probabilities(s, t, temperature)
    return gram_distance(q.T, p.T) / s.shape[1]


class MultiTemperature(Term):
    """A loss of logits, summed over the weak and the strong view and over temperatures.

    Args:
        temperatures: each T > 0.

    Raises:
        UserError: no temperature, or one that is not above 0.
    """

    needs = ("student.logits", "teacher.logits")
    num_views = 2

    def __init__(self, weight: Scheduled = 0.9, temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0)) -> None:
        super().__init__(weight)
        self.temperatures = [self.number("temperatures", t, above=0) for t in temperatures]
        if not self.temperatures:
            raise UserError("temperatures must be numbers above 0, e.g. [2, 3, 4, 5, 6], got none")

    def loss(self, s: Tensor, t: Tensor, temperature: float) -> Tensor:
        """Of one view at one temperature, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """A scalar."""
        pairs = [(student[view].logits, teacher[view].logits) for view in (0, 1)]
        return torch.stack([self.loss(s, t, temperature) for s, t in pairs for temperature in self.temperatures]).sum()


class InstanceAlignment(MultiTemperature):
    """`kd` at several temperatures."""

    def loss(self, s: Tensor, t: Tensor, temperature: float) -> Tensor:
        """Logits (B, C) on both sides → a scalar."""
        return kd(s, t, temperature)


class BatchAlignment(MultiTemperature):
    """The term of `batch_gram`."""

    global_batch = True

    def loss(self, s: Tensor, t: Tensor, temperature: float) -> Tensor:
        """Logits (B, C) on both sides → a scalar."""
        return batch_gram(s, t, temperature)


class ClassAlignment(MultiTemperature):
    """The term of `class_gram`."""

    global_batch = True

    def loss(self, s: Tensor, t: Tensor, temperature: float) -> Tensor:
        """Logits (B, C) on both sides → a scalar."""
        return class_gram(s, t, temperature)
