"""FitNets' hints: the student's map, through a connector, regresses the teacher's (arXiv 1412.6550)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.models.feature_info import FeatureInfo, match_stages
from distillab.strategies.base import Fields, Outputs, Scheduled, Term, choose_stage
from distillab.strategies.parts.connectors import MapConnector
from distillab.strategies.parts.features import check_same_shape
from distillab.strategies.parts.logits import widened

__all__ = ["hint"]


def hint(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Mean squared error of two feature tensors of one shape, the student's from a connector (arXiv 1412.6550)."""
    check_same_shape(f_s=f_s, f_t=f_t)
    return F.mse_loss(*widened(f_s, f_t))


class Hint(Term):
    """The term of `hint`, with its connector, at a stage that `choose_stage` knows."""

    needs = ("student.stages", "teacher.stages")
    weight: Scheduled = 100.0
    stage: str | int = "middle"

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        partner = dict(match_stages(student, teacher))
        self.student_stage = choose_stage(self.stage, student, list(partner))
        self.teacher_stage = partner[self.student_stage]
        self.connector = MapConnector(student.stages[self.student_stage], teacher.stages[self.teacher_stage])

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        return hint(self.connector(student.stages[self.student_stage]), teacher.stages[self.teacher_stage])
