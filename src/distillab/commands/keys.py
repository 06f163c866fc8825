"""Overrides of keys that no file of conf/ has but the code knows: they need no plus; and one value is spelled in one way."""

import inspect
from contextlib import suppress
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from distillab.core.errors import UserError
from distillab.core.instantiate import locate

ROLES = ("student", "teacher")
# What only a teacher has, as it is trained or held here; the student's stand elsewhere.
OF_TEACHERS = ("seed", "samples", "labelled", "corrupt_classes", "dtype", "shard", "recipe")

RECIPES = ("recipe", "teacher.recipe")

_apply = ConfigLoaderImpl._apply_overrides_to_config


def _apply_overrides(overrides: list[Override], cfg: DictConfig) -> None:
    """As Hydra does, which refuses every key that no file has."""
    _epochs_give_way(overrides, cfg)
    new = [one for one in overrides if _changes(one) and not _has(cfg, one.key_or_group)]
    # What is there first: which arguments a network takes may depend on its architecture.
    for override in [*(one for one in overrides if one not in new), *new]:
        key = override.key_or_group
        if override in new and not _has(cfg, key) and _known(cfg, key):
            OmegaConf.update(cfg, key, None, force_add=True)
        if _changes(override):
            _keep_kind(cfg, key, override)
        _apply([override], cfg)


def _epochs_give_way(overrides: list[Override], cfg: DictConfig) -> None:
    """Where a recipe's steps are given, the epochs of its file are none; epochs that are given too are refused later."""
    given = {one.key_or_group: one for one in overrides if not one.is_delete()}
    for path in RECIPES:
        steps, epochs = given.get(f"{path}.steps"), f"{path}.epochs"
        if steps is None or epochs in given or not _has(cfg, epochs):
            continue
        if steps.is_sweep_override() or steps.value() is not None:
            OmegaConf.update(cfg, epochs, None)


def _changes(override: Override) -> bool:
    """Whether it gives a key of ours another value."""
    other = override.is_delete() or override.is_add() or override.is_force_add() or override.package is not None
    return not (other or override.key_or_group.startswith("hydra."))


def register() -> None:
    """Let Hydra apply overrides in this way, in every composition of this process."""
    ConfigLoaderImpl._apply_overrides_to_config = staticmethod(_apply_overrides)


def _node(cfg: DictConfig, key: str) -> Any:
    """What stands at a dotted key, None where nothing does."""
    with suppress(Exception):  # an interpolation that cannot be resolved yet
        return OmegaConf.select(cfg, key, throw_on_missing=False) if key else cfg
    return None


def _has(cfg: DictConfig, key: str) -> bool:
    parent, _, last = key.rpartition(".")
    node = _node(cfg, parent)
    # Of a list Hydra says what is wrong; the custom model takes any key.
    return not OmegaConf.is_dict(node) or OmegaConf.is_struct(node) is False or last in list(node)


def _known(cfg: DictConfig, key: str) -> bool:
    """Whether the typed config has the key, or the target of its parent takes such an argument."""
    from distillab.core import configuration as typed  # pydantic takes time, which --help need not spend
    from distillab.core.recipe import Protocol, Recipe

    parent, _, last = key.rpartition(".")
    groups = (typed.Paths, typed.Prices, typed.CacheConfig, typed.TrainerConfig, typed.LoggerConfig, Protocol, Recipe)
    names = {group.PATH: group for group in groups} | dict.fromkeys(RECIPES, Recipe)
    if parent in names:
        return last in inspect.signature(names[parent]).parameters
    if parent in ROLES and last in typed.ROLE_KEYS:
        return parent == "teacher" or last not in OF_TEACHERS
    node = _node(cfg, parent) if parent else None
    return OmegaConf.is_dict(node) and isinstance(_node(node, "_target_"), str) and _takes(node, last)


def _takes(node: DictConfig, name: str) -> bool:
    """Whether the target of a node, or a class that it is made from, or what it passes the rest on to, takes a name."""
    try:
        found = locate(node["_target_"], "")
        parts = inspect.getmro(found) if inspect.isclass(found) else [found]
        architecture = _node(node, "architecture")
        passed_on = found.passed_on(architecture) if architecture and hasattr(found, "passed_on") else ()
        return name in passed_on or any(name in inspect.signature(one).parameters for one in parts)
    except (UserError, ValueError):
        return False


def _keep_kind(cfg: DictConfig, key: str, override: Override) -> None:
    """Make 4 the 4.0 that stands in the file: the same run has one hash. A limit of 1 is one batch, and 1.0 all."""
    value = None if override.is_sweep_override() else override.value()
    if type(value) is int and type(_node(cfg, key)) is float and not key.startswith("trainer.limit"):
        override._value = float(value)
