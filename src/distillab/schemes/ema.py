"""The student learns from its own moving average."""

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme
from distillab.strategies.base import Term
from distillab.teachers.base import TeacherSource
from distillab.teachers.ema import EMATeacher


class EMA(Scheme):
    """The student learns from the moving average of its weights; no teacher is trained beforehand. `EMATeacher` checks the `decay`."""

    name = "ema"

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Refuse terms that need a trained teacher; the shapes are the student's."""
        self.check(run, unlabelled="the student's average is not trained yet")
        for name, term in run.strategy.terms.items():
            if term.ready_teacher:
                why = "needs a trained teacher"
            elif type(term).deploy is not Term.deploy:
                why = "ships a head that this scheme does not train"
            else:
                continue
            raise UserError(f"scheme=ema: strategy.{name} {why}; choose another, e.g. strategy=kd, or scheme=offline")
        self.parent = f"average of {student.info.name}"
        return student.info

    def source(self, student: Model) -> TeacherSource:
        """The average, which starts as the student."""
        return EMATeacher(student, self.decay)
