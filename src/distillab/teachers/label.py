"""A virtual teacher that smooths the labels."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.models.feature_info import FeatureInfo
from distillab.teachers.base import TeacherSource, refuse_beyond_logits


class LabelTeacher(TeacherSource):
    """A virtual teacher: sure of the label to a degree, and of no other class more than of the next (arXiv 1909.11723).

    Its logits are log-probabilities: `correct` for the label, (1 − correct) / (classes − 1) for each other class.

    Args:
        classes: how many there are.
        correct: probability of the label, above 1 / classes and below 1.

    Raises:
        UserError: a probability out of its range.
    """

    def __init__(self, classes: int, correct: float = 0.99) -> None:
        super().__init__()
        if isinstance(correct, bool) or not isinstance(correct, int | float) or not 1 / classes < correct < 1:
            raise UserError(
                f"correct must be above 1/{classes}, the chance among {classes} classes, and below 1, got {correct!r}; "
                f"e.g. scheme.correct=0.99"
            )
        self.correct = correct
        self.info = FeatureInfo("smoothed labels", (), None, classes, None)

    def request(self, needs: Iterable[str]) -> None:
        """Refuse all but logits."""
        refuse_beyond_logits(needs, "a virtual teacher")

    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The same logits for each view, from labels (N,) int64 or distributions (N, classes)."""
        labels = batch.targets.get("labels")
        if labels is None:
            raise UserError("a virtual teacher needs labels, and there are none; choose another scheme=…")
        shares = F.one_hot(labels, self.info.outputs).float() if labels.ndim == 1 else labels.float()
        logits = torch.log(shares * self.correct + (1 - shares) * (1 - self.correct) / (self.info.outputs - 1))
        return [SimpleNamespace(logits=logits) for _ in batch.inputs]
