"""Cross-view consistency: what the teacher is sure of in one view holds in the other (Zhang et al., arXiv 2412.16493)."""

from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.kd import kd_rows


class SureKD(Term):
    """KD of two views where the teacher's highest probability is from `confidence`, summed; mean over all samples."""

    needs = ("student.logits", "teacher.logits")
    num_views = 2
    weight: Scheduled = 1.0
    temperature: Scheduled = 4.0
    confidence: Scheduled = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.confidence > 1:
            raise UserError(f"confidence must be a probability, at most 1, got {self.confidence:g}")

    def of_sure(self, judged: Tensor, *pairs: tuple[Tensor, Tensor]) -> Tensor:
        """`kd` of (student, teacher) logits, with samples left out whose `judged` teacher logits are not sure."""
        sure = judged.detach().softmax(-1).amax(-1) >= self.confidence
        rows = sum(kd_rows(s, t, self.temperature) for s, t in pairs)
        return (sure * rows).mean()


class WithinViews(SureKD):
    """Each view learns from the teacher's of the same view where the teacher is sure of the weak one."""

    weight: Scheduled = 2.0
    confidence: Scheduled = 0.9

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`kd` of each view with the teacher's same one."""
        (weak, strong), (t_weak, t_strong) = ([side[view].logits for view in (0, 1)] for side in (student, teacher))
        return self.of_sure(t_weak, (weak, t_weak), (strong, t_strong))


class AcrossViews(SureKD):
    """Each view learns from the teacher's of the other view where the teacher is sure of the strong one."""

    weight: Scheduled = 0.5
    confidence: Scheduled = 0.2

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`kd` of each view with the teacher's other one."""
        (weak, strong), (t_weak, t_strong) = ([side[view].logits for view in (0, 1)] for side in (student, teacher))
        return self.of_sure(t_strong, (strong, t_weak), (weak, t_strong))
