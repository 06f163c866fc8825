"""Puts the teacher behind the cache of its outputs, where strategy and teacher allow one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from distillab.core.distributed import rank_zero_print
from distillab.core.errors import UserError
from distillab.data.images.datamodule import ImageData
from distillab.models.fingerprint import preprocessing, structure, weights_hash
from distillab.strategies.strategy import Strategy
from distillab.teachers.base import TeacherSource
from distillab.teachers.cache import MEND, TeacherCache
from distillab.teachers.cached import CachedTeacher
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.layout import Layout

MODES = ("auto", "never", "require")
STORED = {"logits", "embedding"}
LAYERS = {"head", "norms"}  # parts of the teacher, which need no run of it


def check_cache(settings: Mapping[str, Any], classes: int) -> None:
    """Raise UserError where a number of the group `cache` makes no sense for data of so many classes."""
    if settings["mode"] not in MODES:
        raise UserError(f'cache.mode must be one of {", ".join(MODES)}, got "{settings["mode"]}"')
    Layout(classes, None, settings["dtype"], settings["top_k"])
    limit = settings["limit_gb"]
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0):
        raise UserError(f"cache.limit_gb must be a number of GB from 0, or null for no limit, got {limit}")


def with_cache(
    teacher: TeacherSource | None, strategy: Strategy, data: ImageData, config: Mapping[str, Any], root: Path
) -> TeacherSource | None:
    """The teacher behind its cache, where its strategy and its kind allow one; says so where not.

    Args:
        teacher: holds its weights.
        strategy: of the fit.
        data: configured for the fit.
        config: the whole config; `cache`, `recipe` and parts of `trainer` are read.
        root: the folder of all caches.

    Raises:
        UserError: a wrong setting, or `require` where there can be no cache.
    """
    settings, trainer = config["cache"], config["trainer"]
    needs = strategy.needs("teacher")
    if settings["mode"] == "never" or not needs or teacher is None:
        return teacher
    classes = teacher.info.outputs
    check_cache(settings, classes)
    require = settings["mode"] == "require"
    if live := _reason(teacher, strategy):
        if require:
            raise UserError(f"cache.mode=require, but {live}; set cache.mode=auto")
        rank_zero_print(f"the teacher runs live: {live}")
        return teacher
    model = teacher.model
    key = {
        "weights": weights_hash(model),
        "structure": structure(model),
        "about": preprocessing(model),
        "spec": str(teacher.info),
        "data": data.configure(data.batch_size, data.seed).fingerprint,  # of one view: the weak one
        "files": data.files_stamp,
        "precision": config["recipe"]["precision"],
        "channels_last": trainer["channels_last"],
    }
    if trainer.get("compile") == "both":
        key["compiled"] = True
    if (device := _device(trainer.get("accelerator", "auto"))) != "cpu":
        key["device"] = device
    layout = Layout(
        classes, teacher.info.embedding if "embedding" in needs else None, settings["dtype"], settings["top_k"]
    )
    limit = math.inf if settings["limit_gb"] is None else 1e9 * settings["limit_gb"]
    cache = TeacherCache(root, key, layout, data.sizes["train"], limit, strong={"data": data.fingerprint})
    _look_ahead(cache, strategy, data, config["recipe"]["epochs"], require)
    return CachedTeacher(teacher, cache, require)


def _device(accelerator: str) -> str:
    """The type of device on which the teacher will run: another one rounds otherwise."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator == "cpu" or found is None else found.type


def _look_ahead(cache: TeacherCache, strategy: Strategy, data: ImageData, epochs: int, require: bool) -> None:
    """Say that the views of the fit will not fit the limit; with `require`, raise where one is not there at all."""
    kinds = range(strategy.num_views)
    views = [(number, kind) for number in range(min(epochs, data.cycle or epochs)) for kind in kinds]
    lacking = sum(not cache.has(*view) for view in views)
    if require and lacking and not strategy.phases:  # in some phases nobody may ask the teacher
        raise UserError(
            f"cache.mode=require, and the teacher cache lacks {lacking} of the {len(views)} views that "
            f"recipe.epochs={epochs} reads; fill it with cache.mode=auto"
        )
    if require or not lacking:
        return
    needed, taken = lacking * cache.layout.bytes(cache.samples), cache.bytes_taken()
    if taken + needed > cache.limit:
        rank_zero_print(
            f"{lacking} views of this run take up to {needed / 1e9:.2f} GB more in the teacher cache, of whose "
            f"cache.limit_gb={cache.limit / 1e9:g} {taken / 1e9:.2f} are taken: for the others the teacher runs live; "
            f"raise it, delete what is not needed any more in {cache.root}, or set {MEND}"
        )


def _reason(teacher: TeacherSource, strategy: Strategy) -> str | None:
    """Why the teacher cannot be replayed; None where it can."""
    if type(teacher) is not FrozenTeacher:
        return "only the outputs of one teacher that does not change can be cached"
    for name, term in strategy.terms.items():
        own = {need.removeprefix("teacher.") for need in term.needs if need.startswith("teacher.")}
        if beyond := sorted(own - STORED - LAYERS):
            return f"strategy.{name} reads teacher.{beyond[0]}, and the cache holds logits and embeddings"
    return None
