"""Cross-view consistency: what the teacher is sure of in one view holds in the other (Zhang et al., arXiv 2412.16493)."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.kd import kd_rows


class SureKD(Term):
    """KD of two views where the teacher's highest probability is from `confidence`, summed; mean over all samples."""

    needs = ("student.logits", "teacher.logits")
    num_views = 2
    judge: ClassVar[int]  # the view of which the teacher must be sure
    pairs: ClassVar[Sequence[tuple[int, int]]]  # a view of the student's, and the teacher's that it learns from
    weight: Scheduled = 1.0
    temperature: Scheduled = 4.0
    confidence: Scheduled = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.confidence > 1:
            raise UserError(f"confidence must be a probability, at most 1, got {self.confidence:g}")

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`kd` of the pairs of views, with samples left out of which the teacher is not sure."""
        sure = teacher[self.judge].logits.detach().softmax(-1).amax(-1) >= self.confidence
        rows = sum(kd_rows(student[own].logits, teacher[other].logits, self.temperature) for own, other in self.pairs)
        return (sure * rows).mean()


class WithinViews(SureKD):
    """Each view learns from the teacher's of the same view where the teacher is sure of the weak one."""

    judge = 0
    pairs = ((0, 0), (1, 1))
    weight: Scheduled = 2.0
    confidence: Scheduled = 0.9


class AcrossViews(SureKD):
    """Each view learns from the teacher's of the other view where the teacher is sure of the strong one."""

    judge = 1
    pairs = ((1, 0), (0, 1))
    weight: Scheduled = 0.5
    confidence: Scheduled = 0.2
