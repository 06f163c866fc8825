"""The interface of a task: its samples, the rows of its outputs, and their metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.text_parts import Text
from distillab.data.batch import Batch, Inputs
from distillab.evaluation.metrics import predict
from distillab.evaluation.roles import Roles
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model

if TYPE_CHECKING:
    from lightning import LightningDataModule


class Task(ABC):
    """The interface of a task; training, teachers and schemes depend on nothing else of a sample."""

    name: ClassVar[str]  # for the result
    primary: ClassVar[str]  # the figure that selects, ranks and compares
    higher_is_better: ClassVar[bool] = True  # of that figure
    label: ClassVar[str]  # of that figure, for a person
    exports: ClassVar[bool] = False  # whether its students are exported in the formats of `export=`

    @property
    def monitor(self) -> str:
        """The logged figure that selects the checkpoint."""
        return f"val/{self.primary}"

    @property
    def mode(self) -> str:
        """Its direction, `max` or `min`."""
        return "max" if self.higher_is_better else "min"

    @abstractmethod
    def wrap(self, network: nn.Module, role: str) -> Model:
        """A plain network as a model, a model unchanged; raises UserError if an argument of the task is missing."""

    def check_model(self, config: ModelConfig, role: str) -> None:  # noqa: B027 - a task need not
        """Raise UserError where a network's config shows, before the data are read, that it cannot be built."""

    @abstractmethod
    def build_model(self, config: ModelConfig, role: str, data: LightningDataModule, seed: int) -> Model:
        """The model of a config for these data, with fresh weights of the seed, pretrained ones, or a checkpoint's.

        `role` is its path in the config, for messages. Raises UserError where the config does not give such a model.
        """

    def as_batch(self, batch: Any, outputs: int, *, look: bool = True) -> Batch:
        """A Batch as it is, or what a plain loader yields for so many outputs; raises UserError for anything else.

        Without a `look` at the values only types and shapes are checked.
        """
        if isinstance(batch, Batch):
            return batch
        raise UserError(f"task={self.name} takes batches of a distillab data module, got {type(batch).__name__}")

    def place(self, module: nn.Module) -> nn.Module:
        """The module with its parameters in the fastest memory format."""
        return module

    def arrange(self, inputs: Inputs) -> Inputs:
        """One view of a batch in the fastest memory format."""
        return inputs

    def example_batch(self, model: Model, num_views: int = 1, labels: Tensor | None = None) -> Batch:
        """Two example samples of the model, with two of these training labels, or with any valid ones."""
        inputs = model.example_inputs(2)
        index = torch.arange(2, device=next(iter(inputs.values())).device)
        known = index % model.info.outputs if labels is None else labels.unique()[[0, -1]].to(index.device)
        return Batch([inputs] * num_views, {"labels": known}, index)

    def with_teacher(self, batch: Batch, student: FeatureInfo, teacher: FeatureInfo) -> Batch:
        """An example batch with what a teacher of other inputs reads in its place."""
        return batch

    def rows(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (…, C) and labels as rows (R, C) and (R,), or (R, C) of mixed samples; ignored positions left out."""
        return logits, labels

    def update(self, metrics: MetricCollection, logits: Tensor, batch: Batch) -> None:
        """Add a batch to the metrics."""
        metrics.update(*self.rows(logits, batch.labels))

    @abstractmethod
    def metrics(self, info: FeatureInfo) -> MetricCollection:
        """The logged metrics of a split, updated with rows of logits and labels."""

    @abstractmethod
    def score(self, logits: Tensor, labels: Tensor) -> float:
        """The primary figure of rows of logits and labels."""

    @abstractmethod
    def figures(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        """All figures of rows of logits and labels, the primary one among them."""

    def compare(self, logits: Mapping[str, Tensor], labels: Tensor, class_names: Sequence[str]) -> Roles:
        """The figures of each role's rows, and whatever else the task can tell of roles on the same samples."""
        return Roles({role: self.figures(rows, labels) for role, rows in logits.items()})

    def text(self, score: float) -> str:
        """The primary figure for a person."""
        return f"{score:.4g}"

    def chance(self, outputs: int) -> float | None:
        """The primary figure of a random guess among so many outputs, if more is better; None if it is undefined."""
        return None

    def other_order(
        self, logits: Tensor, labels: Tensor, classes: Sequence[str], score: float
    ) -> dict[str, Any] | None:
        """Another order of the outputs that fits the labels far better, as `score` and `classes`; None without one."""
        return None

    def predictions(self, model: Model, data: LightningDataModule, split: str, device: str) -> tuple[Tensor, Tensor]:
        """Rows of logits and labels of a whole split, in the data's order, on the CPU."""
        return predict(model, data, split, device, rows=self.rows)

    def judge(
        self, networks: Mapping[str, Model], scores: Mapping[str, Tensor], data: LightningDataModule, device: str
    ) -> Text | None:
        """What else is told of the roles' networks, beside the figures of their test rows `scores`; None: nothing."""
        return None

    def save(self, model: Model, data: LightningDataModule, directory: Path) -> float | None:
        """Write what else makes the student usable outside, into the run's folder.

        Returns the largest difference of a logit between the student and what was written, None where there is nothing.
        """
        return None
