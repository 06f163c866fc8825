"""Further networks that a scheme names: a name in conf/model stands for that file's content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from distillab.commands.composition import PRIMARY, choices, compose, record_kept
from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean

LISTS = ("teachers", "assistants", "peers")  # the keys of a scheme that name networks


def with_members(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config in which every network that `scheme` names is written out, so that its hash sees them.

    An entry is the name of a model config, or {model: name} with keys that differ, e.g. a seed or a checkpoint.

    Raises:
        UserError: no list of such entries, or no model of that name.
    """
    scheme = dict(config["scheme"])
    for key in LISTS:
        if scheme.get(key) is None:
            continue
        if not isinstance(scheme[key], list):
            raise UserError(f"scheme.{key} must list models, e.g. scheme.{key}=[resnet20], got {scheme[key]!r}")
        scheme[key] = [_written_out(entry, f"scheme.{key}") for entry in scheme[key]]
    return {**config, "scheme": scheme}


def _written_out(entry: Any, path: str) -> dict[str, Any]:
    if isinstance(entry, Mapping) and "_target_" in entry:
        return dict(entry)
    own = dict(entry) if isinstance(entry, Mapping) else {"model": entry}
    name = own.pop("model", None)
    if not isinstance(name, str):
        raise UserError(
            f"{path}: {entry!r} names no model; write e.g. {path}=[resnet20] or [{{model: resnet20, seed: 1}}]"
        )
    # A running command searches its --config-dir too.
    search = hydra_compose if GlobalHydra.instance().is_initialized() else None
    words = [f"student={name}"]
    try:
        with record_kept():
            config = search(PRIMARY, overrides=words) if search else compose(words)
    except MissingConfigException as error:
        known = list(error.options or ()) or choices("student")
        raise UserError(f'{path} has no "{name}"{did_you_mean(name, known)} (allowed: {", ".join(known)})') from error
    return OmegaConf.to_container(config["student"], resolve=True) | own
