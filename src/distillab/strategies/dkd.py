"""Decoupled KD: the target class and the classes other than it, each with its own weight (arXiv 2203.08679)."""

from __future__ import annotations

from torch import Tensor

from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Scheduled, Term
from distillab.strategies.kd import kd_rows
from distillab.strategies.parts.logits import check, check_classes, kl, log_pair, others, widened

__all__ = ["dkd"]


def dkd_rows(
    s: Tensor, t: Tensor, y: Tensor, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Tensor:
    """`dkd` of each row: (N, C), (N, C), (N,) → (N,)."""
    s, t = widened(s, t)
    target = temperature**2 * kl(log_pair(t / temperature, y), log_pair(s / temperature, y))
    return alpha * target + beta * kd_rows(others(s, y), others(t, y), temperature)


def dkd(s: Tensor, t: Tensor, y: Tensor, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> Tensor:
    """T² · [α · KL of (target, rest) + β · KL over the renormalised other classes] (Zhao et al., arXiv 2203.08679).

    Args:
        s: student logits (N, C).
        t: teacher logits (N, C); receives no gradient.
        y: labels (N,).
        alpha, beta: weights of the target part and of the other classes' part.
        temperature: T > 0.

    Raises:
        UserError: shapes that do not go together, fewer than 3 classes, or a temperature that is not above 0.
    """
    check(s, t, y, classes=3, temperature=temperature)
    return dkd_rows(s, t, y, alpha, beta, temperature).mean()


class DKD(Term):
    """The term of `dkd`.

    Args:
        alpha: weight of the target part.
        beta: weight of the other classes' part.
        temperature: T > 0, or a schedule of it.
    """

    needs = ("student.logits", "teacher.logits", "batch.labels")
    rowwise = True

    def __init__(
        self,
        weight: Scheduled = 1.0,
        alpha: Scheduled = 1.0,
        beta: Scheduled = 8.0,
        temperature: Scheduled = 4.0,
    ) -> None:
        super().__init__(weight)
        self.alpha = self.number("alpha", alpha)
        self.beta = self.number("beta", beta)
        self.temperature = self.number("temperature", temperature, above=0)

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Refuse two classes."""
        check_classes(student)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, C) on both sides, labels (N,) → (N,)."""
        return dkd_rows(student_logits, teacher_logits, labels, self.alpha, self.beta, self.temperature)
