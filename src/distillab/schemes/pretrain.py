"""Gets trained networks: loads and measures a teacher, or trains teachers and baselines once and keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillab.core.distributed import rank, rank_zero_print
from distillab.core.errors import UserError
from distillab.core.files import file_hash
from distillab.data.images.datamodule import ImageData
from distillab.export.safetensors import save_model
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.fingerprint import preprocessing, structure, weights_hash
from distillab.models.model import Model
from distillab.schemes.measure import (
    Setting,
    accuracy,
    answers,
    measure,
    reached,
    warn_if_weak,
)
from distillab.strategies.strategy import Strategy
from distillab.training.fit import fit
from distillab.training.module import Distillation
from distillab.training.recipe import Recipe

# They count elsewhere in the key, or not at all.
NOT_THE_MODEL = ("recipe", "samples", "seed", "name", "labelled", "corrupt_classes", "dtype", "shard")
ALONE = {"ce": {"_target_": "distillab.strategies.ce.CrossEntropy", "weight": 1.0}}


def train_alone(
    model: Model,
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
        logger: gets the curves, those of an earlier fit too (its step is the epoch then).

    Returns:
        `top1` by split, `seconds`, `epochs`, `epoch`, `checkpoints`, `folder` in the store, and `reused`: whether it
        was there before.
    """
    return _train_once(model, config, None, ALONE, {}, data, recipe.alone, seed, title, setting, logger)


def train_taught(
    model: Model,
    config: Mapping[str, Any],
    teacher: Model,
    strategy: Mapping[str, Any],
    data: ImageData,
    recipe: Recipe,
    seed: int,
    title: str,
    setting: Setting,
) -> dict[str, Any]:
    """Give a model the weights it gets from a teacher: from the store, else by a fit that is then kept there.

    Args:
        model, config, data, recipe, seed, title, setting: as of `train_alone`.
        teacher: holds its weights; frozen afterwards.
        strategy: the config of the terms.

    Returns:
        As `train_alone`.
    """
    lesson = {
        "strategy": strategy,
        "teacher": {"weights": weights_hash(teacher), "about": preprocessing(teacher), "spec": teacher.info.key()},
        "stages": model.info.key(),
    }
    if data.hides_labels:
        lesson["labels"] = [data.label_source, data.labelled, data.split_seed]
    if (views := Strategy.of(strategy).num_views) > 1:  # the fingerprint of all data leaves the strong view out
        lesson["views"] = data.configure(recipe.batch_size, seed, views).fingerprint
    return _train_once(model, config, teacher, strategy, lesson, data, recipe, seed, title, setting, None)


def _train_once(
    model: Model,
    config: Mapping[str, Any],
    teacher: Model | None,
    strategy: Mapping[str, Any],
    lesson: Mapping[str, Any],
    data: ImageData,
    recipe: Recipe,
    seed: int,
    title: str,
    setting: Setting,
    logger: Any,
) -> dict[str, Any]:
    """The store's network of this key; `lesson` is what the key owes to a teacher."""
    key = {
        "model": {k: v for k, v in config.items() if k not in NOT_THE_MODEL},
        "data": data.fingerprint,
        "recipe": {k: v for k, v in asdict(recipe).items() if v != getattr(Recipe, k)},  # a new option keeps the key
        "seed": seed,
        "protocol": asdict(setting.protocol),
        "trainer": {k: setting.trainer[k] for k in ("limit_train_batches", "limit_val_batches", "channels_last")}
        | {k: setting.trainer[k] for k in ("compile", "sync_batchnorm") if setting.trainer[k]},  # off keeps the key
        "checkpoint": config.get("checkpoint") and file_hash(config["checkpoint"]),
        **lesson,
    }

    def make(folder: Path) -> dict[str, Any]:
        module = Distillation(model, teacher, strategy, setting.task, recipe=recipe, seed=seed)
        ready = setting.configured(data, recipe, seed, module.strategy.num_views)
        figures = fit(module, ready, recipe, setting.protocol, setting.trainer, folder, title, logger)
        module.release()  # the networks live on, as teachers
        record = figures | {"checkpoints": str(folder)}
        if rank == 0:
            save_model(model, folder / "model.safetensors", config, data.info.classes)
            record["top1"] = accuracy(model, data, setting, answers(model, data, setting, str(folder)))
        return record

    folder, record, reused = setting.store.once("networks", model.info.name, key, make)
    if reused:
        file = folder / "model.safetensors"
        load_weights(model.net, read_weights(file)[0], model.info.name, str(file), key="paths.store")
        if logger is not None:
            for figures in record.get("curves") or ():
                epoch = figures["epoch"] - 1  # Lightning counts from 0
                known = {name: value for name, value in figures.items() if name.startswith(("train/", "val/"))}
                logger.log_metrics(known | {"epoch": epoch}, step=epoch)
    return record | {"reused": reused, "folder": str(folder)}


def obtain_teacher(
    model: Model, config: Mapping[str, Any], data: ImageData, recipe: Recipe, setting: Setting
) -> dict[str, Any]:
    """Give the teacher its weights and its measured accuracy, and say where they come from.

    Args:
        model: as built from `config`; a checkpoint's weights are in it already.
        config: the teacher's.
        data: the student's; the teacher may learn from others of its images and labels, see `teacher_data`.
        recipe: the teacher's.
        setting: store, protocol, trainer.

    Returns:
        `top1` by split, `source`, `folder` in the store, `reused`, `seconds`.
    """
    name = model.info.name
    own, ready_made = teacher_data(data, config), _is_ready_made(config, data)
    if ready_made:
        source = config.get("checkpoint") or "pretrained weights"
        record = _measured(model, config, data, setting)
        record |= {"source": str(source), "seconds": 0.0, "seen_validation": "unknown"}
    else:
        seed = config["seed"]
        rank_zero_print(f"teacher {name}: looked up in {setting.store.root}")
        record = train_alone(model, config, own, recipe, seed, f"teacher {name}", setting)
        bad = own.class_names(config.get("corrupt_classes"))
        source = "trained here" + (f" with wrong labels for {', '.join(bad)}" if bad else "")
        record |= {"source": source, "seen_validation": "no"}
        if config.get("dtype"):
            record |= {k: v for k, v in _measured(model, config, data, setting).items() if k in ("top1", "folder")}
    told = "measured before" if ready_made else "reused from the store"
    how = told if record["reused"] else record["source"]
    rank_zero_print(f"teacher {name}: {reached(record['top1'])} ({how})")
    warn_if_weak(name, record, len(data.info.classes))
    return record


def _measured(model: Model, config: Mapping[str, Any], data: ImageData, setting: Setting) -> dict[str, Any]:
    """How good a ready teacher is, in the dtype in which it will teach."""
    if config.get("dtype"):
        model.hold_in(config["dtype"])
    key = {
        "weights": weights_hash(model),
        "structure": structure(model),
        "about": preprocessing(model),
        "data": data.fingerprint,
    }
    name = model.info.name
    folder, record, reused = setting.store.once(
        "measured", name, key, lambda folder: measure(model, data, setting, str(folder))
    )
    return record | {"folder": str(folder), "reused": reused}


def teacher_data(data: ImageData, config: Mapping[str, Any]) -> ImageData:
    """What a teacher that is trained here learns from.

    Of so many images (`teacher.samples`) those whose label is known (`teacher.labelled`, which is the student's unless
    said: a teacher that saw more labels would hand them on), with wrong labels for `teacher.corrupt_classes`.

    Raises:
        UserError: a number or a class that the data do not have, or a ready-made teacher that is to be corrupted.
    """
    if config.get("corrupt_classes") and _is_ready_made(config, data):
        raise UserError(
            "teacher.corrupt_classes trains a teacher with wrong labels, and a ready-made one is not trained: "
            "teacher.checkpoint=null teacher.pretrained=false, or teacher.corrupt_classes=null"
        )
    own = data.with_samples(config.get("samples")).labelled_only(config.get("labelled"), "teacher.labelled")
    return own.with_wrong_labels(config.get("corrupt_classes"))


def _is_ready_made(config: Mapping[str, Any], data: ImageData) -> bool:
    """Whether it comes with weights that tell the data's classes apart, so that nothing is left to train."""
    own_head = config.get("classes") is not None or len(data.info.classes) == 1000
    return bool(config.get("checkpoint") or (config.get("pretrained") and own_head))
