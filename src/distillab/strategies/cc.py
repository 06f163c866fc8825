"""Correlation congruence: errors that go together within a batch (Peng et al., arXiv 1904.01802)."""

from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.features import check_same_shape, checked, embedding_widths

__all__ = ["correlation_congruence"]


def correlation_congruence(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Mean over neighbours in the batch of Σ |Δ_i|·|Δ_{i+1}|, Δ = e_s − e_t of (N, d), N > 1 (arXiv 1904.01802)."""
    check_same_shape(e_s=e_s, e_t=e_t)
    if len(e_s) < 2:
        raise UserError("e_s must have at least 2 rows: neighbours in the batch are compared")
    e_s, e_t = checked("N, d", e_s=e_s, e_t=e_t.detach())
    difference = (e_s - e_t).abs()
    return (difference[:-1] * difference[1:]).sum(1).mean()


class CorrelationCongruence(Term):
    """The term of `correlation_congruence`, on linear projections of both embeddings to `width`.

    The teacher's projection keeps its first, random weights: trained with the student's, both could shrink to nothing.
    """

    needs = ("student.embedding", "teacher.embedding")
    global_batch = True
    smallest_batch = 2

    def __init__(self, weight: Scheduled = 0.02, width: int = 128) -> None:
        super().__init__(weight)
        self.width = int(self.number("width", width, above=0))

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        of_student, of_teacher = embedding_widths(student, teacher)
        self.student_projection = nn.Linear(of_student, self.width)
        self.teacher_projection = nn.Linear(of_teacher, self.width).requires_grad_(False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        e_s, e_t = self.student_projection(student.embedding), self.teacher_projection(teacher.embedding)
        return correlation_congruence(e_s, e_t)
