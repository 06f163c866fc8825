"""Gets trained networks: loads and measures a teacher, or trains teachers and baselines once and keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distillab.data.datamodule import ImageData
from distillab.distributed import rank, say, warn
from distillab.evaluation.metrics import best_class_order, predict, top1
from distillab.export import save_model
from distillab.files import file_hash
from distillab.fit import fit
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.image_model import ImageModel
from distillab.module import Distillation
from distillab.optim import Recipe
from distillab.protocol import Protocol
from distillab.teachers.store import Store

ALONE = {"ce": {"_target_": "distillab.strategies.ce.CrossEntropy", "weight": 1.0}}


@dataclass(frozen=True)
class Setting:
    """What every fit of a run has in common."""

    store: Store
    protocol: Protocol
    trainer: Mapping[str, Any]

    @property
    def device(self) -> str:
        """Where a trained model is judged."""
        return "cuda" if torch.cuda.is_available() and self.trainer["accelerator"] != "cpu" else "cpu"


def accuracy(model: nn.Module, data: ImageData, setting: Setting) -> dict[str, float]:
    """Top-1 on the validation images (where there are any) and, once, on the test images."""
    splits = [split for split in ("validation", "test") if data.sizes[split]]
    return {split: top1(*predict(model, data, split, setting.device)) for split in splits}


def train_alone(
    model: ImageModel,
    config: Mapping[str, Any],
    data: ImageData,
    recipe: Recipe,
    seed: int,
    title: str,
    setting: Setting,
    logger: Any = None,
) -> dict[str, Any]:
    """Give a model the weights it gets without a teacher: from the store, else by a fit that is then kept there.

    Args:
        model: freshly built; holds the trained weights afterwards.
        config: its config.
        data: what it learns from.
        recipe: how.
        seed: of its first weights, batch order and dropout.
        title: for the lines.
        setting: store, protocol, trainer.
        logger: for a fit that happens now.

    Returns:
        `top1` by split, `seconds`, `epochs`, `epoch`, `checkpoints`, and `reused`: whether it was there before.
    """
    key = {
        "model": {k: v for k, v in config.items() if k not in ("recipe", "samples", "seed", "name")},
        "data": data.fingerprint,
        "recipe": {k: v for k, v in asdict(recipe).items() if v != getattr(Recipe, k)},  # a new option keeps the key
        "seed": seed,
        "protocol": asdict(setting.protocol),
        "trainer": {k: setting.trainer[k] for k in ("limit_train_batches", "limit_val_batches", "channels_last")},
        "checkpoint": config.get("checkpoint") and file_hash(config["checkpoint"]),
    }

    def make(folder: Path) -> dict[str, Any]:
        module = Distillation(
            model, None, ALONE, recipe=recipe, seed=seed, channels_last=setting.trainer["channels_last"]
        )
        ready = data.configure(recipe.batch_size, seed, watch=setting.protocol.watches)
        figures = fit(module, ready, recipe, setting.protocol, setting.trainer, folder, title, logger)
        record = figures | {"checkpoints": str(folder)}
        if rank == 0:
            save_model(model, folder / "model.safetensors", config, data.spec.classes)
            record["top1"] = accuracy(model, data, setting)
        return record

    folder, record, reused = setting.store.once("networks", model.spec.name, key, make)
    if reused:
        file = folder / "model.safetensors"
        load_weights(model.net, read_weights(file)[0], model.spec.name, str(file), "paths.store")
    return record | {"reused": reused}


def obtain_teacher(
    model: ImageModel, config: Mapping[str, Any], data: ImageData, recipe: Recipe, setting: Setting
) -> dict[str, Any]:
    """Give the teacher its weights and its measured accuracy, and say where they come from.

    Args:
        model: as built from `config`; a checkpoint's weights are in it already.
        config: the teacher's.
        data: the student's; the teacher may learn from another number of its images (`teacher.samples`).
        recipe: the teacher's.
        setting: store, protocol, trainer.

    Returns:
        `top1` by split, `source`, `reused`, `seconds`.
    """
    name = model.spec.name
    ready_made = config.get("checkpoint") or (config.get("pretrained") and _own_head(model, config, data))
    if ready_made:
        source = config.get("checkpoint") or "pretrained weights"
        key = {"weights": _weights_hash(model), "data": data.fingerprint, "about": _about(model)}
        _, record, reused = setting.store.once("measured", name, key, lambda _: _measure(model, data, setting))
        record |= {"source": str(source), "seconds": 0.0, "seen_validation": "unknown", "reused": reused}
    else:
        own = data.with_samples(config.get("samples"))
        seed = config["seed"]
        say(f"teacher {name}: looked up in {setting.store.root}")
        record = train_alone(model, config, own, recipe, seed, f"teacher {name}", setting)
        record |= {"source": "trained here", "seen_validation": "no"}
    figures = record["top1"]
    shown = ", ".join(f"{100 * value:.2f} % on {split}" for split, value in figures.items())
    told = "measured before" if ready_made else "reused from the store"
    how = told if record["reused"] else record["source"]
    say(f"teacher {name}: top-1 {shown} ({how})")
    _warn_if_weak(name, record, len(data.spec.classes))
    return record


def _measure(model: ImageModel, data: ImageData, setting: Setting) -> dict[str, Any]:
    """Accuracy of a ready teacher; where it is near chance, also under the class order that fits best."""
    record: dict[str, Any] = {"top1": accuracy(model, data, setting)}
    chance = 1 / len(data.spec.classes)
    split = next(iter(record["top1"]))
    if record["top1"][split] < 2 * chance:
        order, reached = best_class_order(*predict(model, data, split, setting.device))
        if reached > max(3 * chance, 2 * record["top1"][split]):
            names: list[str | None] = [None] * len(order)
            for output, name in zip(order, data.spec.classes, strict=True):
                names[output] = name
            record["other_order"] = {"top1": reached, "classes": names}
    return record


def _warn_if_weak(name: str, record: Mapping[str, Any], classes: int) -> None:
    split, value = next(iter(record["top1"].items()))
    if other := record.get("other_order"):
        warn(
            f"your class order differs: teacher {name} is right on {100 * value:.1f} % of {split}, but on "
            f"{100 * other['top1']:.1f} % if its outputs mean teacher.classes=[{','.join(other['classes'])}]"
        )
    elif value < 1.5 / classes:
        warn(
            f"teacher {name} is no better than chance ({100 * value:.1f} % of {split}, chance {100 / classes:.1f} %); "
            f"check teacher.checkpoint, teacher.mean, teacher.std and teacher.classes"
        )


def _own_head(model: ImageModel, config: Mapping[str, Any], data: ImageData) -> bool:
    """Whether pretrained weights already tell the data's classes apart, so that nothing is left to train."""
    return config.get("classes") is not None or len(data.spec.classes) == 1000


def _about(model: ImageModel) -> dict[str, Any]:
    order = model.class_order.tolist() if model.class_order is not None else None
    return {
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "size": model.input_size,
        "order": order,
    }


def _weights_hash(model: ImageModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.net.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
