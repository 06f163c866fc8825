"""How good a ready network is on the data: measured once, and kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distillab.core.distributed import rank_zero_print, rank_zero_warn
from distillab.core.files import replacing, writable
from distillab.data.images.datamodule import ImageData
from distillab.evaluation.metrics import best_class_order
from distillab.models.fingerprint import preprocessing, structure, weights_hash
from distillab.models.model import Model
from distillab.schemes.store import Store
from distillab.tasks.base import Task
from distillab.training.protocol import Protocol
from distillab.training.recipe import Recipe


@dataclass(frozen=True)
class Setting:
    """What every fit of a run has in common."""

    store: Store
    protocol: Protocol
    trainer: Mapping[str, Any]
    task: Task

    @property
    def device(self) -> str:
        """Where a trained model is judged."""
        return "cuda" if torch.cuda.is_available() and self.trainer["accelerator"] != "cpu" else "cpu"

    def configured(self, data: ImageData, recipe: Recipe, seed: int, num_views: int = 1) -> ImageData:
        """The data for one fit."""
        watch = self.protocol.watches
        return data.configure(recipe.batch_size, seed, num_views, watch=watch, accumulate=recipe.accumulate)


def accuracy(
    model: nn.Module, data: ImageData, setting: Setting, test: tuple[Tensor, Tensor] | None = None
) -> dict[str, float]:
    """Top-1 on the validation images (where there are any) and, once, on the test images.

    `test`: the model's answers there, where they are known already.
    """
    figures = {}
    if data.sizes["validation"]:
        figures["validation"] = setting.task.score(*_said(model, data, "validation", setting))
    return figures | {"test": setting.task.score(*(test or _said(model, data, "test", setting)))}


def answers(model: nn.Module, data: ImageData, setting: Setting, folder: str | None = None) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) and labels (N,) on the test images; a network of the store answers them once.

    Args:
        model: images → logits, with its trained weights.
        data: whose test images are asked.
        setting: store, protocol, trainer.
        folder: the network's in the store; None asks anew.

    Raises:
        UserError: the store cannot be written.
    """
    if folder is None:
        return _said(model, data, "test", setting)
    file = Path(folder) / "test.npz"
    if not file.is_file():
        logits, labels = _said(model, data, "test", setting)
        with writable(file.parent, "paths.store=…"), replacing(file) as temporary, temporary.open("wb") as opened:
            np.savez(opened, logits=logits.numpy(), labels=labels.numpy())
    with np.load(file) as kept:
        return torch.from_numpy(kept["logits"]), torch.from_numpy(kept["labels"])


def _said(model: nn.Module, data: ImageData, split: str, setting: Setting) -> tuple[Tensor, Tensor]:
    """As `predict`; a network that the device cannot hold by itself is asked on the CPU."""
    try:
        return setting.task.predictions(model, data, split, setting.device)
    except torch.OutOfMemoryError:
        pass  # out here the error no longer holds the tensors that it met
    rank_zero_print("a network is too large for one device: it is judged on the CPU, which takes longer")
    model.cpu()
    torch.cuda.empty_cache()
    return setting.task.predictions(model, data, split, "cpu")


def reached(figures: Mapping[str, float]) -> str:
    """Top-1 by split, in words."""
    return "top-1 " + ", ".join(f"{100 * value:.2f} % on {split}" for split, value in figures.items())


def measure_mixture(mixture: nn.Module, members: Iterable[Model], data: ImageData, setting: Setting) -> dict[str, Any]:
    """Accuracy of several teachers together, measured once.

    Args:
        mixture: images → logits, with a spec.
        members: the networks it consists of.
        data: on which it is judged.
        setting: store, protocol, trainer.

    Returns:
        `top1` by split, `reused`, `folder` in the store.
    """
    key = {"members": [(weights_hash(m), structure(m), preprocessing(m)) for m in members], "data": data.fingerprint}
    name = mixture.info.name

    def make(folder: Path) -> dict[str, Any]:
        return {"top1": accuracy(mixture, data, setting, answers(mixture, data, setting, str(folder)))}

    folder, record, reused = setting.store.once("measured", name, key, make)
    rank_zero_print(f"teachers {name} together: {reached(record['top1'])}")
    return record | {"reused": reused, "folder": str(folder)}


def measure(model: Model, data: ImageData, setting: Setting, folder: str) -> dict[str, Any]:
    """Accuracy of a ready teacher; where it is near chance, also under the class order that fits best.

    `folder`: the teacher's in the store, which keeps what it answers on the test images.
    """
    record: dict[str, Any] = {"top1": accuracy(model, data, setting, answers(model, data, setting, folder))}
    chance = 1 / len(data.info.classes)
    split = next(iter(record["top1"]))
    if record["top1"][split] < 2 * chance:
        order, reached = best_class_order(*_said(model, data, split, setting))
        if reached > max(3 * chance, 2 * record["top1"][split]):
            names: list[str | None] = [None] * len(order)
            for output, name in zip(order, data.info.classes, strict=True):
                names[output] = name
            record["other_order"] = {"top1": reached, "classes": names}
    return record


def warn_if_weak(name: str, record: Mapping[str, Any], classes: int) -> None:
    """Say so where a teacher is no better than chance, or reads the classes in another order."""
    split, value = next(iter(record["top1"].items()))
    if other := record.get("other_order"):
        rank_zero_warn(
            f"your class order differs: teacher {name} is right on {100 * value:.1f} % of {split}, but on "
            f"{100 * other['top1']:.1f} % if its outputs mean teacher.classes=[{','.join(other['classes'])}]"
        )
    elif value < 1.5 / classes:
        rank_zero_warn(
            f"teacher {name} is no better than chance ({100 * value:.1f} % of {split}, chance {100 / classes:.1f} %); "
            f"check teacher.checkpoint, teacher.mean, teacher.std and teacher.classes"
        )


def warn_if_below(records: Mapping[str, Any], student: str) -> None:
    """Say so when the teacher knows no more than the student alone."""
    if records["teacher"] is None:
        return
    split, alone = next(iter(records["baseline"]["top1"].items()))
    above = records["teacher"]["top1"][split]
    if above <= alone:
        rank_zero_warn(
            f"the teacher ({100 * above:.2f} % on {split}) is no better than {student} alone ({100 * alone:.2f} %): "
            f"there is little to distil; a larger teacher=… or more teacher.recipe.epochs may help"
        )
