"""KD on logits of which each row is standardised: the student need not match the teacher's scale (arXiv 2403.01427)."""

from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.base import Scheduled
from distillab.strategies.kd import kd_rows
from distillab.strategies.parts.logits import LogitsTerm, at_least_float32

__all__ = ["standardize"]


def standardize(z: Tensor) -> Tensor:
    """Each row of (N, C) less its mean, over its unbiased standard deviation + 1e-7 (Sun et al., arXiv 2403.01427).

    Used as `kd(standardize(s), standardize(t), 2.0)`; C > 1. At a row of equal logits there is no second derivative.
    """
    if z.ndim != 2 or z.shape[1] < 2:
        raise UserError(f"z must be logits (N, C) of 2 classes or more, got {tuple(z.shape)}")
    z = at_least_float32(z)
    return (z - z.mean(-1, keepdim=True)) / (z.std(-1, keepdim=True) + 1e-7)


class StandardizedKD(LogitsTerm):
    """The term of `kd` on standardised logits."""

    weight: Scheduled = 9.0
    temperature: Scheduled = 2.0

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        return kd_rows(standardize(student_logits), standardize(teacher_logits), self.temperature)
