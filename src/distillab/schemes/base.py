"""What every scheme is: it builds, trains or loads whoever teaches, and hands the student its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from distillab.core import distributed
from distillab.core.errors import UserError
from distillab.core.result_parts import Longer
from distillab.data.images.datamodule import ImageData
from distillab.evaluation.cost import equal_compute_epochs
from distillab.evaluation.efficiency import multiply_adds
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.measure import Setting, accuracy, answers
from distillab.schemes.pretrain import ALONE, obtain_teacher, teacher_data, train_alone, train_taught
from distillab.strategies.strategy import Strategy
from distillab.teachers.base import TeacherSource
from distillab.training.module import Distillation
from distillab.training.recipe import Recipe

SEED_STEP = 1000  # between the seeds of one run's networks, so that those of a seed study do not meet


@dataclass(frozen=True)
class Run:
    """What a scheme works with: the checked parts of a run's config."""

    config: Mapping[str, Any]
    data: ImageData
    recipe: Recipe
    strategy: Strategy
    setting: Setting

    def __post_init__(self) -> None:
        self.strategy.check_batch(self.recipe.batch_size, distributed.world)
        alone = self.config.get("strategy") == ALONE and self.data.label_source == "all"
        if self.data.hides_labels and not self.strategy.needs_teacher and not alone:
            raise UserError(
                "the teacher answers for the labels that are unknown, and no term of the strategy reads one; choose one "
                "that does, e.g. strategy=kd, or data.labels=all data.labelled=1.0"
            )

    @property
    def seed(self) -> int:
        """The student's."""
        return self.config["seed"]

    def network(self, config: Mapping[str, Any], path: str, seed: int) -> Model:
        """A network for the run's data; `path` is where its config stands."""
        return self.setting.task.build_model(config, path, self.data, seed)

    def student(self, seed: int | None = None) -> Model:
        """The student with fresh weights, those of the run's seed unless another is given."""
        return self.network(self.config["student"], "student", self.seed if seed is None else seed)

    def teacher(self) -> Model:
        """The config's teacher, not trained yet.

        Raises:
            UserError: it cannot be built, or not be trained on its share of the images.
        """
        config = self.config["teacher"]
        recipe = Recipe.of(config["recipe"], "teacher.recipe")
        teacher_data(self.data, config).configure(recipe.batch_size, 0)
        return self.network(config, "teacher", config["seed"])

    def obtain_teacher(self, model: Model, config: Mapping[str, Any]) -> dict[str, Any]:
        """Train or load a teacher; its record."""
        recipe = Recipe.of(config["recipe"], "teacher.recipe")
        return obtain_teacher(model, config, self.data, recipe, self.setting)

    def train_student_alone(
        self, model: Model, logger: Any = None, title: str | None = None, epochs: int | None = None
    ) -> dict[str, Any]:
        """Train or load the student without a teacher; its record. It is every comparison's baseline.

        It learns from the labelled images alone, in as many steps as from all.

        Args:
            model: with fresh weights.
            logger: gets the curves, those of an earlier fit too.
            title: for the lines.
            epochs: other than the recipe's.
        """
        title = title or f"{model.info.name} alone"
        config, recipe = self.config["student"], replace(self.recipe, epochs=epochs or self.recipe.epochs)
        return train_alone(model, config, self.data.labelled_only(), recipe, self.seed, title, self.setting, logger)

    def train_student_longer(self, teacher: nn.Module) -> Longer:
        """The student alone, trained for what its own and the teacher's passes would have cost.

        Returns:
            Its epochs and figures on test, and the teacher's multiply-adds.
        """
        student = self.student()
        work = [multiply_adds(network) for network in (teacher, student)]
        epochs = equal_compute_epochs(self.recipe.epochs, *work, self.strategy.num_views)
        record = self.train_student_alone(student, title=f"{student.info.name} alone, equal compute", epochs=epochs)
        figures = {self.setting.task.primary: record["top1"]["test"]}
        return Longer(epochs=record["epochs"], metrics=figures, teacher_multiply_adds=work[0])

    def train_taught(
        self, model: Model, config: Mapping[str, Any], teacher: Model, seed: int, title: str
    ) -> dict[str, Any]:
        """Train or load a network that learns as the student does, from another teacher; its record."""
        lesson = (teacher, self.config["strategy"])
        return train_taught(model, config, *lesson, self.data, self.recipe, seed, title, self.setting)

    def accuracy(self, model: nn.Module, test: tuple[Tensor, Tensor] | None = None) -> dict[str, float]:
        """Top-1 by split; `test`: the answers on the test images, where they are known."""
        return accuracy(model, self.data, self.setting, test)

    def answers(self, model: nn.Module, record: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and labels (N,) on the test images, kept where the network of the record is."""
        return answers(model, self.data, self.setting, record.get("folder"))


class Scheme:
    """Who teaches whom.

    The run calls `prepare`, `obtain`, `module` and, in process 0 and after the fit, `finish`, in this order.

    Attributes:
        name: for the result.
        model: what the result shows as the teacher; None where there is none beside the student.
        lineage: the networks of the run in the order of their training: `name`, `parent` (None learns from the labels
            alone), `top1` by split, `seconds`.
        parent: the name of the student's teacher.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.model: nn.Module | None = None
        self.lineage: list[dict[str, Any]] = []
        self.parent: str | None = None

    def prepare(self, run: Run, student: Model) -> FeatureInfo | None:
        """Build who else is needed and refuse what cannot work; nothing is trained yet.

        Returns:
            What the strategy's terms see of the teacher.
        """
        raise NotImplementedError

    def obtain(self, run: Run) -> dict[str, Any] | None:
        """Train or load whoever teaches.

        Returns:
            The record of `model`.
        """
        return None

    @property
    def live(self) -> nn.Module | None:
        """The network that runs beside the student in every step; None where `model` is None."""
        return self.model

    def source(self, student: Model) -> TeacherSource | None:
        """The student's source of teacher outputs; None where the networks that learn teach each other."""
        return None

    def module(self, run: Run, student: Model, teacher: TeacherSource | None) -> Distillation:
        """What is fitted in the end; `teacher` is the source, or what stands before it."""
        return Distillation(student, teacher, run.strategy, run.setting.task, recipe=run.recipe, seed=run.seed)

    def finish(self, run: Run, student: Model, record: Mapping[str, Any]) -> None:
        """Note the trained student."""
        self.note(student.info.name, record, self.parent)

    def note(self, name: str, record: Mapping[str, Any], parent: str | None) -> None:
        """Add a network to the lineage."""
        figures = {key: record[key] for key in ("top1", "seconds", "reused") if key in record}
        self.lineage.append({"name": name, "parent": parent, **figures})


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
    if dtype := run.config["teacher"].get("dtype"):
        raise UserError(
            f"scheme={scheme} has no frozen teacher of its own to hold in {dtype}; choose teacher.dtype=null, or "
            f"scheme=offline"
        )


def refuse_shard(run: Run, scheme: str) -> None:
    """Raise where a teacher is to be shared out among devices, and the scheme is none of one frozen teacher."""
    if run.config["teacher"].get("shard"):
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
