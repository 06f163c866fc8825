"""Distillation without a teacher of its own: from smoothed labels, or from the student trained alone."""

from __future__ import annotations

from torch import nn

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme, refuse_dtype, refuse_hidden_labels, refuse_teacherless
from distillab.schemes.record import Record
from distillab.teachers.base import TeacherSource
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.label import LabelTeacher

SOURCES = ("labels", "student")


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

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
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

    def obtain(self, run: Run) -> Record | None:
        """Train or load the student alone, where it teaches."""
        if self.chosen == "student":
            self.note(run, self.parent, run.train_student_alone(self.teacher), None)
        return None

    def source(self, student: Model) -> TeacherSource:
        """The virtual teacher, or the student as trained alone."""
        return FrozenTeacher(self.teacher) if self.chosen == "student" else self.teacher
