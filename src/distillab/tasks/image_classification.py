"""Images with one label each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.rounding import rounded
from distillab.data.batch import Batch, Inputs
from distillab.data.images.image_batch import ImageBatch
from distillab.data.labels import checked
from distillab.evaluation.metrics import best_class_order, classification_metrics, top1
from distillab.evaluation.roles import Roles, evaluate_roles
from distillab.models.build import build_model, check_network
from distillab.models.feature_info import FeatureInfo
from distillab.models.image_model import ImageModel
from distillab.models.model import Model
from distillab.tasks.base import Task

# Under which key a plain loader's mapping may have the images, and under which the labels.
KEYS = (("image", "images", "img", "pixel_values", "pixels"), ("label", "labels", "target", "targets"))


class NegativeLogLikelihood(MeanMetric):
    """The mean cross-entropy of logits (N, C) with labels (N,), in nats."""

    def update(self, preds: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add a batch."""
        super().update(F.cross_entropy(preds.float(), target), weight=len(target))


class ImageClassification(Task):
    """Images with one label each: top-1 accuracy, and the mean cross-entropy.

    `input_shape` is (C, H, W), needed to wrap plain networks; `channels_last` stores images by pixel, which runs faster.
    """

    name = "image_classification"
    primary = "top1"
    label = "top-1"
    exports = True

    def __init__(self, input_shape: tuple[int, int, int] | None = None, channels_last: bool = False) -> None:
        self.input_shape = input_shape
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def wrap(self, network: nn.Module, role: str) -> Model:
        """A plain network with the task's image shape, a model unchanged."""
        if isinstance(network, Model):
            return network
        if self.input_shape is None:
            raise UserError(f"the {role} is a plain network; say input_shape=(channels, height, width) of its images")
        return ImageModel(network, self.input_shape)

    def check_model(self, config: ModelConfig, role: str) -> None:
        """Its class, arguments and the names in it."""
        check_network(config, role)

    def build_model(self, config: ModelConfig, role: str, data: Any, seed: int) -> ImageModel:
        """A classifier of the data's images, which normalises them as its weights expect."""
        info = data.info
        shape = (info.channels, info.image_size, info.image_size)
        return build_model(config, role, info.classes, shape, mean=info.mean, std=info.std, seed=seed)

    def as_batch(self, batch: Any, outputs: int, *, look: bool = True) -> Batch:
        """A Batch as it is, or images and labels of a plain loader: a pair, or a mapping with one of `KEYS` for each.

        Images (N, C, H, W) are float, or uint8, which is brought to [0, 1]; labels are those of `labels.checked`.
        """
        if isinstance(batch, Mapping):
            found = [[name for name in names if name in batch] for names in KEYS]
            if [len(names) for names in found] != [1, 1]:
                keys = " and ".join(f"one of {', '.join(names)}" for names in KEYS)
                raise UserError(f"a batch has the keys {', '.join(map(str, batch))}: {keys} are needed")
            batch = [batch[name] for (name,) in found]
        if not isinstance(batch, list | tuple):
            return super().as_batch(batch, outputs, look=look)
        if len(batch) < 2 or not all(isinstance(one, Tensor) for one in batch[:2]) or batch[0].ndim != 4:
            raise UserError(
                "a batch of a plain loader needs images, a tensor (N, channels, height, width), and labels, a tensor"
            )
        images, labels = batch[:2]
        images = images.float().div_(255) if images.dtype == torch.uint8 else images
        return ImageBatch.of([images], checked(labels, outputs, shares=True, look=look))

    def place(self, module: nn.Module) -> nn.Module:
        """Set the memory format of the weights."""
        return module.to(memory_format=self.memory_format)

    def arrange(self, inputs: Inputs) -> Inputs:
        """Set the memory format of the images."""
        return {name: images.contiguous(memory_format=self.memory_format) for name, images in inputs.items()}

    def metrics(self, info: FeatureInfo) -> MetricCollection:
        """Top-1 accuracy, and the mean cross-entropy."""
        accuracy = MulticlassAccuracy(info.outputs, average="micro")
        return MetricCollection({"top1": accuracy, "nll": NegativeLogLikelihood()}, compute_groups=False)

    def score(self, logits: Tensor, labels: Tensor) -> float:
        """Top-1 accuracy, from 0 to 1."""
        return top1(logits, labels)

    def text(self, score: float) -> str:
        """As a percentage."""
        return f"{rounded(100 * score, 2):.2f} %"

    def chance(self, outputs: int) -> float:
        """One in so many classes."""
        return 1 / outputs

    def other_order(
        self, logits: Tensor, labels: Tensor, classes: Sequence[str], score: float
    ) -> dict[str, Any] | None:
        """The class order that fits best, where it is far better than chance and than the order at hand."""
        order, found = best_class_order(logits, labels)
        if found <= max(3 * self.chance(len(classes)), 2 * score):
            return None
        names: list[str | None] = [None] * len(order)
        for output, name in zip(order, classes, strict=True):
            names[output] = name
        return {"score": found, "classes": names}

    def figures(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        """The figures of `distillab.evaluation.metrics.classification_metrics`."""
        return classification_metrics(logits, labels)

    def compare(self, logits: Mapping[str, Tensor], labels: Tensor, class_names: Sequence[str]) -> Roles:
        """Agreement, paired answers and limits as well, class by class."""
        return evaluate_roles(logits, labels, class_names, self.figures)
