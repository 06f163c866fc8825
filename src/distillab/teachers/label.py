"""A virtual teacher that smooths the labels."""

from types import SimpleNamespace

import torch
from torch.nn import functional as F

from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.models.feature_info import FeatureInfo
from distillab.teachers.base import TeacherSource


class LabelTeacher(TeacherSource):
    """A virtual teacher with one probability for the label and an equal share for each other class (arXiv 1909.11723).

    Its logits are log-probabilities: `correct` for the label, (1 − correct) / (classes − 1) for each other class.
    UserError unless `correct` lies above 1 / classes (chance) and below 1.
    """

    def __init__(self, classes: int, correct: float = 0.99) -> None:
        super().__init__()
        self.correct = Range(above=1 / classes, below=1).check(correct, "scheme.correct", 0.99)
        self.info = FeatureInfo("smoothed labels", (), None, classes, None)

    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The same logits for each view, from labels (N,) int64 or distributions (N, classes)."""
        labels = batch.targets.get("labels")
        if labels is None:
            raise UserError("a virtual teacher needs labels, and there are none; choose another scheme=…")
        shares = F.one_hot(labels, self.info.outputs).float() if labels.ndim == 1 else labels.float()
        logits = torch.log(shares * self.correct + (1 - shares) * (1 - self.correct) / (self.info.outputs - 1))
        return [SimpleNamespace(logits=logits) for _ in batch.inputs]
