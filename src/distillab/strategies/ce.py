"""Cross-entropy with the true labels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Scheduled, TeacherPass, Term

BALANCED = "balanced"


class CrossEntropy(Term):
    """The task's own loss: what the student would learn from without a teacher.

    `class_weights` are one number per class, or `balanced`: all samples / (classes · the class's samples), as
    scikit-learn counts them. The mean over samples is then weighted, as by torch's `cross_entropy(weight=…)`.
    """

    needs = ("student.logits", "batch.labels")
    kind = "task"
    rowwise = True
    soft_labels = True

    weight: Scheduled = 1.0
    class_weights: str | Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.class_weights
        numbers = isinstance(given, Sequence) and not isinstance(given, str)
        if given not in (None, BALANCED) and not (numbers and given and all(map(_is_weight, given)) and any(given)):
            allowed = f"{BALANCED}, a list of one number from 0 for each class, or null"
            raise UserError(f"class_weights must be {allowed}, got {given!r}: strategy.ce.class_weights={BALANCED}")
        self.of_class: Tensor | None = None

    @property
    def prepares(self) -> bool:
        """Whether the classes must be counted."""
        return self.class_weights == BALANCED

    def connect(self, student: FeatureInfo, teacher: FeatureInfo | None) -> None:
        """Take one weight for each of the student's classes."""
        if self.class_weights is None:
            return
        weights = [1.0] * student.outputs if self.prepares else list(self.class_weights)
        if len(weights) != student.outputs:
            raise UserError(
                f"class_weights has {len(weights)} numbers, and {student.name} has {student.outputs} classes"
            )
        del self.of_class
        self.register_buffer("of_class", torch.tensor(weights, dtype=torch.float32), persistent=False)

    def prepare(self, labels: Tensor, teacher: TeacherPass) -> None:
        """Count the samples of each class."""
        if self.prepares:
            counts = labels[labels >= 0].bincount(minlength=len(self.of_class))
            self.of_class.copy_(counts.sum() / (len(counts) * counts.clamp(min=1)))

    def row_weights(self, labels: Tensor) -> Tensor | None:
        """The weight of each label's class; of shares of classes none, as torch divides their loss by their number."""
        if self.of_class is None or labels.is_floating_point():
            return None
        return torch.where(labels < 0, 1.0, self.of_class[labels.clamp(min=0)])  # an unknown label weighs the mean

    def rows(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """Logits (R, C), labels (R,) or (R, C) → (R,)."""
        return F.cross_entropy(student_logits, labels, self._weights(student_logits), reduction="none")

    def _weights(self, logits: Tensor) -> Tensor | None:
        return None if self.of_class is None else self.of_class.to(logits.dtype)


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
