"""A run's config and its origin; the networks that a scheme names are replaced by their configs from conf/model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from distillab.commands.composition import PRIMARY, choices, compose, record_kept
from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean

if TYPE_CHECKING:
    from distillab.core.configuration import RunConfig

GROUPS = ("task", "strategy", "student", "teacher", "data", "recipe", "scheme", "protocol", "trainer", "logger")
LISTS = ("teachers", "assistants", "peers")  # the keys of a scheme that name networks


@dataclass(frozen=True)
class Invocation:
    """A run's config and where it comes from.

    Attributes:
        label: the strategy's name.
        command: the command line.
        overrides: the words of it that differ from the defaults.
        sweep_folder: of the sweep that the run belongs to; None for a single run.
    """

    config: "RunConfig"
    label: str
    command: str = ""
    overrides: Sequence[str] = ()
    sweep_folder: Path | None = None


def parse(config: Mapping[str, Any]) -> "RunConfig":
    """The typed config of a run, from the resolved one as plain Python.

    Raises:
        UserError: an empty group, an unknown key, or a value that is not allowed.
    """
    from distillab.core.configuration import RunConfig  # pydantic takes time, which --help need not spend

    for group in GROUPS:
        if not isinstance(config.get(group), dict) or not config[group]:
            raise UserError(f"{group} is empty: choose one of {', '.join(choices(group))} with {group}=…")
    return RunConfig.of(with_members(config))


def with_members(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config in which every network that `scheme` names is written out, so that its hash sees them.

    An entry is the name of a model config, or {model: name} with keys that differ, e.g. a seed or a checkpoint.
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
    own = dict(entry) if isinstance(entry, Mapping) else {"model": entry}
    if "_target_" in own:
        return own
    name = own.pop("model", None)
    if not isinstance(name, str):
        example = f"{path}=[resnet20] or [{{model: resnet20, seed: 1}}]"
        raise UserError(f"{path}: {entry!r} names no model; write e.g. {example}")
    words = [f"student={name}"]
    try:
        with record_kept():  # a running command searches its --config-dir too
            running = GlobalHydra.instance().is_initialized()
            config = hydra_compose(PRIMARY, overrides=words) if running else compose(words)
    except MissingConfigException as error:
        known = list(error.options or ()) or choices("student")
        raise UserError(f'{path} has no "{name}"{did_you_mean(name, known)} (allowed: {", ".join(known)})') from error
    return OmegaConf.to_container(config["student"], resolve=True) | own
