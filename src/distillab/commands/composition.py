"""Finds conf/, gives the student and the teacher one folder of models, and knows which strategy files are composed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from distillab.commands import keys
from distillab.commands.words import meant, quoted
from distillab.core.errors import UserError, printable
from distillab.core.instantiate import CONFIG, conf_dir, did_you_mean
from distillab.core.places import PACKAGE, located
from distillab.core.task_numbers import FOR, TASKS, for_task

# The imports have the same names on purpose: Hydra compares class names when a source is registered twice.
from hydra._internal.core_plugins.file_config_source import FileConfigSource as _FileConfigSource  # isort: skip
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource as _StructuredConfigSource  # isort: skip
from hydra._internal.sources_registry import SourcesRegistry  # isort: skip

OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)  # for the folder that Hydra makes

ROLES = keys.ROLES
PRIMARY = CONFIG
CUSTOM = "custom"  # the model whose arguments no file knows: its class says which keys it takes
TUNE = "hydra_plugins.distillab.Tune"  # commands.tune.Tune: Hydra takes no sweeper from a package of another name
RAY = "hydra_plugins.distillab.Ray"  # likewise, commands.ray_launcher.Ray

# The strategy files that the latest composition read, last first: Hydra itself keeps no record of a list.
_composed: dict[str, Mapping[str, Any]] = {}
_task: list[str] = []  # the name of that composition's task, once it is read


def _model_path(config_path: str) -> str:
    role, _, rest = config_path.partition("/")
    return f"model/{rest}".rstrip("/") if role in ROLES else config_path


class FileConfigSource(_FileConfigSource):
    """Hydra's own source of files, in which `student` and `teacher` are two names of the group `model`."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file, note it where it is a strategy or a task, and let the custom model take further keys."""
        if config_path.removesuffix(".yaml") == PRIMARY:
            _composed.clear()
            _task.clear()
        result = super().load_config(_model_path(config_path))
        group, _, name = config_path.partition("/")
        if group == "strategy" and name:
            _composed[name.removesuffix(".yaml")] = result.config
        if group == "task" and name:
            _task[:] = [name.removesuffix(".yaml")]
        if group in ("task", "strategy") and _task:  # Hydra reads the last group first, and merges when all are read
            for strategy, config in _composed.items():
                _take_numbers(strategy, config, _task[0])
        if group in ROLES and name.removesuffix(".yaml") == CUSTOM:
            OmegaConf.set_struct(result.config, False)
        return result

    def is_group(self, config_path: str) -> bool:
        """Whether the path is a folder of choices."""
        return super().is_group(_model_path(config_path))

    def is_config(self, config_path: str) -> bool:
        """Whether the path is a choice."""
        return super().is_config(_model_path(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The entries of a folder; at the root the two roles stand in for `model`."""
        entries = super().list(_model_path(config_path), results_filter)
        at_root = config_path == "" and "model" in entries
        return sorted({*entries, *ROLES} - {"model"}) if at_root else entries


class StructuredConfigSource(_StructuredConfigSource):
    """Hydra's own source of what plugins registered; it only reads, so a copy of it is the source itself."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Hydra copies every source for every group that `--help` lists, with all the configs in it."""
        return self


def _take_numbers(name: str, config: DictConfig, task: str) -> None:
    """Give a strategy file's config the file's numbers for a task, in place; UserError where it does not serve that."""
    if FOR in config or TASKS in config:
        for key, node in for_task(OmegaConf.to_container(config), task, name).items():
            config[key] = node
        for key in {FOR, TASKS} & set(config):
            del config[key]


def _folder_name(key: str, *, _root_: Any) -> str:
    """The name of the folder at a key of the config, by which its data are called; `folder` until there is one."""
    root = OmegaConf.select(_root_, key, throw_on_missing=False)
    name = Path(os.path.abspath(Path(str(root)).expanduser())).name if root else ""
    return printable(name) or "folder"


def register() -> None:
    """Make Hydra read through the sources above; call before any composition."""
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    OmegaConf.register_new_resolver(
        "package_file", lambda path: str(located(f"{PACKAGE}{path}", "package_file")), replace=True
    )
    Plugins.instance()  # registers Hydra's own sources, which ours then replace
    keys.register()
    SourcesRegistry.instance().types |= {"file": FileConfigSource, "structured": StructuredConfigSource}
    node = {"_target_": TUNE, "_convert_": "all", "trials": 20, "at_once": 1, "fresh_seeds": 3}
    node |= {"space": None, "params": None}
    ConfigStore.instance().store(group="hydra/sweeper", name="tune", node=node, provider="distillab")
    ConfigStore.instance().store(group="hydra/launcher", name="ray", node={"_target_": RAY}, provider="distillab")


register()


def compose(overrides: list[str], folder: Path | None = None) -> Any:
    """One resolved config, as `train.py` would get it from these overrides; a running command's --config-dir counts.

    `folder` is another one with files of the person's.
    """
    running = GlobalHydra.instance().is_initialized()
    if folder is not None:
        overrides = [*overrides, f"hydra.searchpath=[{quoted(f'file://{folder.absolute()}')}]"]
    with nullcontext() if running else initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose(PRIMARY, overrides=overrides)


def choices(group: str) -> list[str]:
    """The names that a group offers in the shipped folder."""
    folder = conf_dir() / ("model" if group in ROLES else group)
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _offered(group: str) -> list[str]:
    """The names that a group offers, with those of a running command's --config-dir."""
    hydra = GlobalHydra.instance()
    return hydra.config_loader().get_group_options(group) if hydra.is_initialized() else choices(group)


def missing_choice(error: MissingConfigException, group: str, name: str, path: str = "") -> str:
    """That a group, chosen from at a path of the config, does not have a name, and which it has."""
    allowed = list(error.options or _offered(group))  # for a list Hydra gives no options
    return f'{path or group} has no "{name}"{did_you_mean(meant(name, allowed) or name, allowed)} (allowed: {", ".join(allowed)})'


def model_config(name: str, path: str) -> dict[str, Any]:
    """The resolved config of a network, by its name in conf/model; UserError if it is none.

    It is named at `path`, and leaves no trace in `strategy_label` and `strategy_conflicts`.
    """
    kept, task = dict(_composed), list(_task)
    try:
        return OmegaConf.to_container(compose([f"student={name}"])["student"], resolve=True)
    except MissingConfigException as error:
        raise UserError(missing_choice(error, "student", name, path)) from error
    finally:
        _composed.clear()
        _composed.update(kept)
        _task[:] = task


def strategy_label(strategy: Mapping[str, Any]) -> str:
    """The name of a strategy: the files it was composed from, or its terms."""
    if _composed:
        return "+".join(reversed(_composed))
    return "+".join(name for name in strategy if name not in ("ce", "phases")) or "none"


def strategy_conflicts() -> list[str]:
    """One line per number on which two chosen strategy files disagree, and for their phases; the last file wins."""
    lines: list[str] = []
    seen: dict[str, tuple[str, Any]] = {}
    for name, config in reversed(_composed.items()):
        for key, value in _numbers(config):
            first, other = seen.get(key, (name, value))
            seen[key] = (name, value)
            if other == value:
                continue
            said = f"{first} says {other}, {name} says {value}; {value} it is (strategy.{key}=… decides)"
            if key == "phases":
                both = f"{first} and {name} have their own; those of {name} it is"
                said = f"{both}, and a term that they do not name acts in the last (strategy.phases=[…] decides)"
            lines.append(f"strategy.{key}: {said}")
    return lines


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a strategy file sets, by dotted key; its phases as a whole."""
    for term, numbers in config.items():
        if isinstance(numbers, Mapping):
            yield from ((f"{term}.{key}", value) for key, value in numbers.items())
        elif term == "phases":
            yield term, numbers
