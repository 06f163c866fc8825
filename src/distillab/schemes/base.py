"""What every scheme is: it builds, trains or loads the networks that teach, and gives the student its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from distillab.core import distributed
from distillab.core.configuration import ModelConfig, RunConfig
from distillab.core.errors import UserError
from distillab.core.recipe import Recipe
from distillab.core.result_parts import Longer, Trained
from distillab.data.module import DataModule
from distillab.evaluation.cost import equal_compute_epochs
from distillab.evaluation.efficiency import multiply_adds
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.measure import predictions, scores
from distillab.schemes.pretrain import ALONE, Pretraining, obtain_teacher, teacher_data, train_once
from distillab.schemes.record import Record
from distillab.schemes.setting import Setting
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
        self.strategy.check_batch(self.recipe.batch_size, distributed.world)
        alone = self.config.strategy == ALONE and self.data.label_source == "all"
        if self.data.hides_labels and not self.strategy.needs_teacher and not alone:
            raise UserError(
                "the teacher answers for the labels that are unknown, and no term of the strategy reads one; choose one "
                "that does, e.g. strategy=kd, or data.labels=all data.labelled=1.0"
            )

    @property
    def recipe(self) -> Recipe:
        """The student's."""
        return self.config.recipe

    @property
    def seed(self) -> int:
        """The student's."""
        return self.config.seed

    def network(self, config: ModelConfig, path: str, seed: int) -> Model:
        """A network for the run's data; `path` is where its config stands."""
        return self.setting.task.build_model(config, path, self.data, seed)

    def student(self, seed: int | None = None) -> Model:
        """The student with fresh weights, those of the run's seed unless another is given."""
        return self.network(self.config.student, "student", self.seed if seed is None else seed)

    def teacher(self) -> Model:
        """The config's teacher, not trained yet; raises UserError where it cannot be built or trained on its data."""
        config = self.config.teacher
        teacher_data(self.data, config).configure(config.recipe.batch_size, 0)
        return self.network(config, "teacher", config.seed)

    def obtain_teacher(self, model: Model, config: ModelConfig) -> Record:
        """Train or load a teacher."""
        return obtain_teacher(model, config, self.data, self.setting)

    def train_student_alone(
        self, model: Model, logger: Any = None, *, title: str | None = None, epochs: int | None = None
    ) -> Record:
        """Train or load the student without a teacher: every comparison's baseline.

        It learns from the labelled samples alone, in as many steps as from all.

        Args:
            model: with fresh weights.
            logger: gets the curves, those of an earlier fit too.
            title: for the printed lines.
            epochs: other than the recipe's.
        """
        title = title or f"{model.info.name} alone"
        recipe = replace(self.recipe.alone, epochs=epochs or self.recipe.epochs)
        own = self.data.labelled_only()
        return train_once(
            Pretraining(model, self.config.student, own, recipe, self.seed, title, self.setting, logger=logger)
        )

    def train_student_longer(self, teacher: Model) -> Longer:
        """The student alone, trained for what its own and the teacher's passes would have cost."""
        student = self.student()
        work = [multiply_adds(network) for network in (teacher, student)]
        epochs = equal_compute_epochs(self.recipe.epochs, *work, self.strategy.num_views)
        record = self.train_student_alone(student, title=f"{student.info.name} alone, equal compute", epochs=epochs)
        figures = {self.setting.task.primary: record.scores["test"]}
        return Longer(epochs=record.training.epochs, metrics=figures, teacher_multiply_adds=work[0])

    def train_taught(self, model: Model, config: ModelConfig, teacher: Model, *, seed: int, title: str) -> Record:
        """Train or load a network that learns as the student does, from another teacher."""
        lesson = {"teacher": teacher, "strategy": self.config.strategy}
        return train_once(Pretraining(model, config, self.data, self.recipe, seed, title, self.setting, **lesson))

    def scores(self, model: Model, test: tuple[Tensor, Tensor] | None = None) -> dict[str, float]:
        """The primary figure by split; `test`: the predictions on test, where they are known."""
        return scores(model, self.data, self.setting, test)

    def predictions(self, model: Model, record: Record) -> tuple[Tensor, Tensor]:
        """Rows of logits and labels on test, kept where the network of the record is."""
        return predictions(model, self.data, self.setting, record.folder)


class Scheme:
    """Who teaches whom.

    The run calls `prepare`, `obtain`, `source`, `module` and, in process 0 and after the fit, `finish`, in this order.

    Attributes:
        name: for the result.
        model: what the result shows as the teacher; None where there is none beside the student.
        lineage: the networks of the run in the order of their training.
        parent: the name of the student's teacher.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.model: Model | None = None
        self.lineage: list[Trained] = []
        self.parent: str | None = None

    def prepare(self, run: Run, student: Model) -> FeatureInfo | None:
        """Build the networks that are needed and refuse what cannot work; nothing is trained yet.

        Returns:
            What the strategy's terms see of the teacher.
        """
        raise NotImplementedError

    def obtain(self, run: Run) -> Record | None:
        """Train or load the networks that teach; the record of `model`."""
        return None

    @property
    def live(self) -> Model | None:
        """The network that runs beside the student in every step; None where `model` is None."""
        return self.model

    def source(self, student: Model) -> TeacherSource | None:
        """The student's source of teacher outputs; None where the networks that learn teach each other."""
        return None

    def module(self, run: Run, student: Model, teacher: TeacherSource | None) -> Distillation:
        """What is fitted in the end; `teacher` is the source, or what stands before it."""
        return Distillation(student, teacher, run.strategy, run.setting.task, recipe=run.recipe, seed=run.seed)

    def finish(self, run: Run, student: Model, record: Record) -> None:
        """Add the trained student to the lineage."""
        self.note(run, student.info.name, record, self.parent)

    def note(self, run: Run, name: str, record: Record, parent: str | None) -> None:
        """Add a network to the lineage."""
        self.lineage.append(record.trained(name, parent, run.setting.task.primary))


def networks(configs: Sequence[Mapping[str, Any]] | None, path: str) -> list[ModelConfig]:
    """The configs of the further networks that a scheme lists under a path."""
    return [ModelConfig.of(config, f"{path}.{place}") for place, config in enumerate(configs or ())]


def refuse_teacherless(run: Run, scheme: str) -> None:
    """Raise where no term reads a teacher."""
    if not run.strategy.needs_teacher:
        raise UserError(
            f"scheme={scheme} teaches nobody: no term of the strategy reads a teacher; choose one that does, e.g. "
            f"strategy=kd, or scheme=offline"
        )


def refuse_dtype(run: Run, scheme: str) -> None:
    """Raise where something is asked of a frozen teacher, and the scheme has only networks that train."""
    refuse_shard(run, scheme)
    if dtype := run.config.teacher.dtype:
        raise UserError(
            f"scheme={scheme} has no frozen teacher of its own to hold in {dtype}; choose teacher.dtype=null, or "
            f"scheme=offline"
        )


def refuse_shard(run: Run, scheme: str) -> None:
    """Raise where a teacher is to be shared out among devices, and the scheme is none of one frozen teacher."""
    if run.config.teacher.shard:
        raise UserError(
            f"scheme={scheme} has no single frozen teacher to share out among devices; choose teacher.shard=false, or "
            f"scheme=offline"
        )


def refuse_hidden_labels(run: Run, who: str) -> None:
    """Raise where labels are unknown, and nobody is ready to answer for them."""
    if run.data.hides_labels:
        raise UserError(
            f"{who} cannot answer for unknown labels; choose scheme=offline, or data.labels=all data.labelled=1.0"
        )
