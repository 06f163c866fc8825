"""The interface of every scheme, which provides the student's teacher, and what a scheme works with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from distillab.core import distributed
from distillab.core.configuration import ModelConfig, RunConfig
from distillab.core.cost_parts import Longer, StepCost
from distillab.core.errors import UserError
from distillab.core.result_parts import Trained
from distillab.data.module import DataModule
from distillab.evaluation.cost import charged_length
from distillab.export.safetensors import check_export
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.pretrain import Pretraining, alone, obtain_teacher, teacher_data, train_once
from distillab.schemes.record import Record
from distillab.schemes.setting import Setting
from distillab.strategies.base import Term
from distillab.strategies.strategy import Strategy
from distillab.teachers.base import TeacherSource
from distillab.training.module import Distillation

SEED_STEP = 1000  # between the seeds of one run's networks, so that those of a seed study do not meet


@dataclass(frozen=True)
class Run:
    """What a scheme works with: the checked parts of a run."""

    config: RunConfig
    data: DataModule
    strategy: Strategy
    setting: Setting

    def __post_init__(self) -> None:
        self.strategy.check_batch(self.config.recipe.batch_size, distributed.world)
        labelled = self.config.strategy == alone(self.config.strategy) and self.data.label_source == "all"
        if self.data.label_source == "none":
            self._check_without_labels()
        if self.data.hides_labels and not self.strategy.needs_teacher and not labelled:
            raise UserError(
                "the teacher answers for the labels that are unknown, and no term of the strategy reads one; choose one "
                "that does, e.g. strategy=kd, or data.labels=all data.labelled=1.0"
            )

    def _check_without_labels(self) -> None:
        """Raise UserError where a term reads labels, and there are none."""
        for name, term in self.strategy.terms.items():
            if "batch.labels" in term.needs:
                raise UserError(
                    f"strategy.{name} reads labels, and data.labels=none hides all of them: choose one that reads none, e.g. "
                    f"strategy=foundation, hint or kd, leave it out with ~strategy.{name}, or let the teacher's answers "
                    f"stand in with data.labels=teacher"
                )

    @property
    def features_alone(self) -> bool:
        """Whether features teach without labels, so that the student's head learns nothing in the fit."""
        terms = self.strategy.terms.values()
        of_head = any("student.logits" in term.needs or type(term).deploy is not Term.deploy for term in terms)
        return self.data.label_source == "none" and not of_head

    @property
    def epochs(self) -> int:
        """The epochs of the student's fit, those of extra phases too; the last may be cut."""
        return self.strategy.whole(self.data.epochs(self.config.recipe, self.config.trainer.limit_train_batches))

    @property
    def length(self) -> int:
        """The optimiser steps of the student's fit where the recipe counts these, else its epochs."""
        recipe, limit = self.config.recipe, self.config.trainer.limit_train_batches
        if recipe.steps is None:
            return self.epochs
        extra = self.epochs - self.data.epochs(recipe, limit)
        return recipe.steps + extra * recipe.steps_of(self.data.batches(recipe, limit))

    def network(self, config: ModelConfig, path: str, seed: int) -> Model:
        """A network for the run's data; `path` is the config key of its config. UserError if it could not be kept."""
        data = self.data.teacher_side if path == "teacher" else self.data
        model = self.setting.task.build_model(config, path, data, seed)
        if path == "student" or not config.checkpoint or config.adapt:  # it is written once it is trained
            check_export(model, path)
        return model

    def student(self, seed: int | None = None) -> Model:
        """The student with fresh weights of a seed, by default the run's."""
        return self.network(self.config.student, "student", self.config.seed if seed is None else seed)

    def teacher(self) -> Model:
        """The config's teacher, untrained; raises UserError if it cannot be built or trained on its data."""
        config = self.config.teacher
        teacher_data(self.data, config).configure(config.recipe.batch_size, 0, batch_key="teacher.recipe.batch_size")
        return self.network(config, "teacher", config.seed)

    def obtain_teacher(self, model: Model, config: ModelConfig) -> Record:
        """Train or load a teacher."""
        return obtain_teacher(model, config, self.data.teacher_side, self.setting)

    def train_student_alone(
        self, model: Model, logger: Any = None, *, title: str | None = None, length: int | None = None
    ) -> Record:
        """Train or load the student without a teacher, the baseline of every comparison.

        `model` has fresh weights and learns from the labelled samples alone, in as many steps as from all; `logger`
        gets the curves, those of an earlier fit too; `length` is another than the recipe's.
        """
        title = title or f"{model.info.name} alone"
        config, own = self.config, self.data.labelled_only()
        recipe = config.recipe.alone.lasting(length or config.recipe.length)
        how = {"strategy": alone(config.strategy), "logger": logger}
        job = Pretraining(model, config.student, own, recipe, config.seed, title, self.setting, **how)
        return train_once(job)

    def train_student_longer(self, step: StepCost) -> Longer:
        """Train the student alone for what the run costs whose cache of teacher outputs is empty, or which has none."""
        student, recipe = self.student(), self.config.recipe
        replays = step.cached is not None and self.config.cache.mode != "never"
        taught = self.data.taught_epochs(self.epochs) if replays else None
        if recipe.steps and taught is not None:
            batches = self.data.batches(recipe, self.config.trainer.limit_train_batches)
            taught = min(self.length, taught * recipe.steps_of(batches))
        length = charged_length(self.length, step, taught)
        record = self.train_student_alone(student, title=f"{student.info.name} alone, equal cost", length=length)
        trained = {"epochs": record.training.epochs, "steps": record.training.steps, "taught": taught}
        return Longer(metrics={self.setting.task.primary: record.scores["test"]}, step=step, **trained)


class Scheme:
    """Provides the student's teacher.

    The run calls `prepare`, `obtain`, `source`, `module` and, in process 0 and after the fit, `finish`, in this order.
    """

    name: ClassVar[str]  # for the result
    has_teacher: ClassVar[bool] = False  # whether the config's teacher is one of its networks

    def __init__(self) -> None:
        self.model: Model | None = (
            None  # what the result shows as the teacher; None if there is none beside the student
        )
        self.lineage: list[Trained] = []  # the networks of the run in the order of their training
        self.parent: str | None = None  # the name of the student's teacher

    def prepare(self, run: Run, student: Model) -> FeatureInfo | None:
        """Build the networks and refuse what cannot work, before anything is trained; the shapes of the teacher."""
        raise NotImplementedError

    def obtain(self, run: Run) -> Record | None:
        """Train or load the teaching networks; the record of `model`."""
        return None

    def source(self, student: Model) -> TeacherSource | None:
        """The student's source of teacher outputs; None if the learning networks teach each other."""
        return None

    def module(self, run: Run, student: Model, teacher: TeacherSource | None) -> Distillation:
        """The module of the final fit; `teacher` is the source, or the cache before it."""
        return Distillation(
            student, teacher, run.strategy, run.setting.task, recipe=run.config.recipe, seed=run.config.seed
        )

    def finish(self, run: Run, student: Model, record: Record) -> None:
        """Add the trained student to the lineage."""
        self.note(run, student.info.name, record, self.parent)

    def note(self, run: Run, name: str, record: Record, parent: str | None) -> None:
        """Add a network to the lineage."""
        self.lineage.append(record.trained(name, parent, run.setting.task.primary))

    def check(self, run: Run, unlabelled: str = "") -> None:
        """Raise UserError if the config asks what only one frozen teacher can do.

        `unlabelled` says why the scheme's teacher cannot fill in unknown labels; empty if it can.
        """
        teacher = run.config.teacher
        if not run.strategy.needs_teacher:
            why = "has nothing to teach: no term of the strategy reads a teacher; choose e.g. strategy=kd"
        elif teacher.shard:
            why = "has no single frozen teacher to share out among devices; choose teacher.shard=false"
        elif teacher.adapt == "none":
            why = "reads the logits of its teacher, and teacher.adapt=none leaves it without any; choose teacher.adapt=head"
        elif teacher.dtype and not self.has_teacher:
            why = f"has no frozen teacher of its own to hold in {teacher.dtype}; choose teacher.dtype=null"
        elif run.features_alone:
            why = "passes on networks whose head has learned, and features alone teach none; choose strategy=kd"
        elif unlabelled and run.data.teacher_answers:
            why = f"cannot answer for unknown labels: {unlabelled}; choose data.labels=all data.labelled=1.0"
        else:
            return
        raise UserError(f"scheme={self.name} {why}, or scheme=offline")


def networks(configs: Sequence[Mapping[str, Any]] | None, path: str) -> list[ModelConfig]:
    """The configs of the networks that a scheme lists under a path."""
    return [ModelConfig.of(config, f"{path}.{place}") for place, config in enumerate(configs or ())]
