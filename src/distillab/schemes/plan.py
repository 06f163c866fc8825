"""A chain of fits: each network teaches the next."""

import copy
from itertools import pairwise
from typing import NamedTuple

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme
from distillab.schemes.pretrain import Pretraining, train_once
from distillab.schemes.record import Record
from distillab.strategies.base import Term
from distillab.teachers.base import TeacherSource
from distillab.teachers.frozen import FrozenTeacher


class Step(NamedTuple):
    """One network before the student."""

    name: str
    model: Model
    config: ModelConfig
    seed: int


class Plan(Scheme):
    """A chain of fits with the student's strategy and recipe; the store keeps each network."""

    def chain(self, run: Run) -> list[Step]:
        """The networks before the student, the first teacher first."""
        raise NotImplementedError

    def obtain_first(self, run: Run, model: Model) -> Record:
        """Train or load the first teacher."""
        raise NotImplementedError

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Build all networks; each must be able to learn from the one before it."""
        self.check(run)
        for name, term in run.strategy.terms.items():
            if type(term).deploy is not Term.deploy:
                raise UserError(
                    f"scheme={self.name} passes networks on, and strategy.{name} ships more than the student; choose "
                    f"another strategy, e.g. strategy=kd, or scheme=offline"
                )
        self.steps = self.chain(run)
        for teacher, learner in pairwise(self.steps):
            copy.deepcopy(run.strategy).connect(learner.model.info, teacher.model.info, learner.seed)
        self.parent, self.teacher = self.steps[-1].name, self.steps[-1].model
        return self.teacher.info

    def obtain(self, run: Run) -> Record | None:
        """Train or load one after the other."""
        first = self.steps[0]
        record = self.obtain_first(run, first.model)
        self.note(run, first.name, record, None)
        if self.model is None:
            rank_zero_print(f"{first.name}: {run.setting.words(record.scores)}")
        for teacher, (name, model, config, seed) in pairwise(self.steps):
            title = f"{name} from {teacher.name}"
            lesson = {"teacher": teacher.model, "strategy": run.config.strategy}
            made = train_once(
                Pretraining(model, config, run.data, run.config.recipe, seed, title, run.setting, **lesson)
            )
            self.note(run, name, made, teacher.name)
            again = " (reused from the store)" if made.training.reused else ""
            rank_zero_print(f"{title}: {run.setting.words(made.scores)}{again}")
        return record if self.model is not None else None

    def source(self, student: Model) -> TeacherSource:
        """The last network of the chain, frozen."""
        return FrozenTeacher(self.teacher)
