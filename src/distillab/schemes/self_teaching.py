"""Teacher-free distillation: from smoothed labels, or from the student trained alone."""

from torch import nn

from distillab.core.allowed import Choice
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme
from distillab.schemes.record import Record
from distillab.teachers.base import TeacherSource
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.label import LabelTeacher


class SelfTeaching(Scheme):
    """Teacher-free distillation (Tf-KD, arXiv 1909.11723); UserError for an unknown source.

    The source is `labels` (a `LabelTeacher`, which smooths them), or `student` (the run's baseline: the student alone).
    """

    name = "self"

    def __init__(self, source: str = "labels", correct: float = 0.99) -> None:
        super().__init__()
        self.chosen, self.correct = Choice("labels", "student").check(source, "scheme.source"), correct

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Build the teacher."""
        self.check(run, unlabelled="scheme.source=labels smooths them" if self.chosen == "labels" else "")
        if self.chosen == "student":
            self.teacher: nn.Module = run.student()
            self.parent = f"{student.info.name} alone"
        else:
            self.teacher = LabelTeacher(student.info.outputs, self.correct)
            self.teacher.request(run.strategy.needs("teacher"))
            self.parent = self.teacher.info.name
        return self.teacher.info

    def obtain(self, run: Run) -> Record | None:
        """Train or load the student alone, if it teaches."""
        if self.chosen == "student":
            self.note(run, self.parent, run.train_student_alone(self.teacher), None)
        return None

    def source(self, student: Model) -> TeacherSource:
        """The virtual teacher, or the student trained alone."""
        return FrozenTeacher(self.teacher) if self.chosen == "student" else self.teacher
