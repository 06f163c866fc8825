"""Softmax regression representation learning: the teacher's head reads the student (Yang et al., ICLR 2021)."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F

from distillab.core.allowed import Choice
from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.hint import hint
from distillab.strategies.parts.connectors import MapConnector
from distillab.strategies.parts.features import embedding_widths


class SRRL(Term):
    """Mean squared error of the projected and pooled student to the teacher's embedding, plus `regression` times that of
    what the teacher's head makes of it to the teacher's logits.

    Projected is what the term `reads` of the student: its `last_map`, the one that is pooled for its head, as the authors
    do, or its `embedding`, pooled already, as in SimKD's comparison (Chen et al., arXiv 2203.14001).
    """

    needs = ("student.last_map", "teacher.logits", "teacher.embedding", "teacher.head")
    weight: Scheduled = 1.0
    regression: float = 1.0
    reads: str = "last_map"

    def __post_init__(self) -> None:
        super().__post_init__()
        Choice("last_map", "embedding").check(self.reads, "reads")
        self.needs = (f"student.{self.reads}", *type(self).needs[1:])
        if self.reads == "embedding":
            self.smallest_batch = 2  # the connector's BatchNorm has one value of each channel for a sample

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Build the connector: 1×1 convolution, BatchNorm and ReLU to the width of the teacher's embedding."""
        if self.reads == "embedding":
            given = Stage("embedding", embedding_widths(student, teacher)[0], 1, 1)
        elif teacher.embedding is None:
            raise UserError(f"{teacher.name} has no linear head for the student; name it, e.g. teacher.head=fc")
        else:
            given = student.last_map
        self.connector = MapConnector(given, replace(given, channels=teacher.embedding))

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The two errors, added."""
        given = student.last_map if self.reads == "last_map" else student.embedding[..., None, None]
        embedding = self.connector(given).mean((2, 3))
        logits = F.linear(embedding, teacher.head.weight, teacher.head.bias)
        return hint(embedding, teacher.embedding) + self.regression * hint(logits, teacher.logits)
