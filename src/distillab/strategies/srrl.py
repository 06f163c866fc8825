"""Softmax regression representation learning: the teacher's head reads the student (Yang et al., ICLR 2021)."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.hint import hint
from distillab.strategies.parts.connectors import MapConnector


class SRRL(Term):
    """Mean squared error of the projected and pooled last map to the teacher's embedding, plus `regression` times
    that of what the teacher's head makes of it to the teacher's logits.
    """

    needs = ("student.stages", "teacher.logits", "teacher.embedding", "teacher.head")
    weight: Scheduled = 1.0
    regression: float = 1.0

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Build the connector: 1×1 convolution, BatchNorm and ReLU to the width of the teacher's embedding."""
        if teacher.embedding is None:
            raise UserError(f"{teacher.name} has no linear head for the student; name it, e.g. teacher.head=fc")
        last = student.stages[-1]
        self.connector = MapConnector(last, replace(last, channels=teacher.embedding))

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The two errors, added."""
        embedding = self.connector(student.stages[-1]).mean((2, 3))
        logits = F.linear(embedding, teacher.head.weight, teacher.head.bias)
        return hint(embedding, teacher.embedding) + self.regression * hint(logits, teacher.logits)
