"""Distillation without a teacher of its own: from smoothed labels, or from the student trained alone."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.image_model import ImageModel
from distillab.schemes.base import (
    Run,
    Scheme,
    refuse_beyond_logits,
    refuse_dtype,
    refuse_hidden_labels,
    refuse_teacherless,
)
from distillab.teachers.frozen import FrozenTeacher

SOURCES = ("labels", "student")


class LabelTeacher(nn.Module):
    """A virtual teacher: sure of the label to a degree, and of no other class more than of the next (arXiv 1909.11723).

    Its logits are log-probabilities: `correct` for the label, (1 − correct) / (classes − 1) for each other class.

    Args:
        classes: how many there are.
        correct: probability of the label, above 1 / classes and below 1.

    Raises:
        UserError: a probability out of its range.
    """

    frozen = True

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
        refuse_beyond_logits(frozenset(needs), "a virtual teacher")

    def outputs(self, views: list[Tensor], labels: Tensor | None = None) -> list:
        """The same for each view; labels (N,) int64, or (N, classes) distributions."""
        if labels is None:
            raise UserError("a virtual teacher speaks from labels, and there are none; choose another scheme=…")
        shares = F.one_hot(labels, self.info.outputs).float() if labels.ndim == 1 else labels.float()
        logits = torch.log(shares * self.correct + (1 - shares) * (1 - self.correct) / (self.info.outputs - 1))
        return [SimpleNamespace(logits=logits) for _ in views]

    def after_step(self, student: nn.Module) -> None:
        """Nothing: labels do not follow the student."""


class SelfTeaching(Scheme):
    """Teacher-free distillation (Tf-KD, arXiv 1909.11723).

    Args:
        source: `labels` (a virtual teacher that smooths them), or `student` (the same student, trained alone: the
            run's baseline).
        correct: of the virtual teacher, see `LabelTeacher`.

    Raises:
        UserError: no such source.
    """

    name = "self"

    def __init__(self, source: str = "labels", correct: float = 0.99) -> None:
        super().__init__()
        if source not in SOURCES:
            raise UserError(f'scheme.source must be one of {", ".join(SOURCES)}, got "{source}"')
        self.chosen, self.correct = source, correct

    def prepare(self, run: Run, student: ImageModel) -> FeatureInfo:
        """Build the teacher."""
        refuse_teacherless(run, self.name)
        refuse_dtype(run, self.name)
        if self.chosen == "student":
            self.teacher: nn.Module = run.student()
            self.parent = f"{student.info.name} alone"
        else:
            refuse_hidden_labels(run, "scheme.source=labels: a teacher that speaks from labels")
            self.teacher = LabelTeacher(student.info.outputs, self.correct)
            self.teacher.request(run.strategy.needs("teacher"))
            self.parent = self.teacher.info.name
        return self.teacher.info

    def obtain(self, run: Run) -> dict[str, Any] | None:
        """Train or load the student alone, where it teaches."""
        if self.chosen == "student":
            self.note(self.parent, run.train_student_alone(self.teacher), None)
        return None

    def source(self, student: ImageModel) -> nn.Module:
        """The virtual teacher, or the student as trained alone."""
        return FrozenTeacher(self.teacher) if self.chosen == "student" else self.teacher
