"""Finds conf/, gives the student and the teacher one folder of models, and builds objects from config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult

# The imports have the same names on purpose: Hydra compares class names when a source is registered twice.
from hydra._internal.core_plugins.file_config_source import FileConfigSource as _FileConfigSource  # isort: skip
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource as _StructuredConfigSource  # isort: skip
from hydra._internal.sources_registry import SourcesRegistry  # isort: skip

from distillab.core.errors import UserError

ROLES = ("student", "teacher")
PRIMARY = "train"
TUNE = "hydra_plugins.distillab.Tune"  # distillab.commands.tune.Tune: Hydra takes no sweeper from a package of another name

# Keys that belong to the part a model plays, not to the model; they never reach its builder.
ROLE_KEYS = ("name", "stages", "head", "checkpoint", "pretrained", "recipe", "seed", "samples", "classes")
ROLE_KEYS += ("mean", "std", "input_size", "labelled", "corrupt_classes", "dtype", "shard")

# The strategy files that the latest composition read, last first: Hydra itself keeps no record of a list.
_composed: dict[str, Mapping[str, Any]] = {}


def composed_strategies() -> dict[str, Mapping[str, Any]]:
    """The strategy files of the latest composition, in the order in which they were merged."""
    return dict(reversed(_composed.items()))


def conf_dir() -> Path:
    """The folder of YAML files: the checkout's where there is one (an editable install), else the wheel's."""
    package = Path(__file__).parents[1]
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / f"{PRIMARY}.yaml").is_file() else package / "conf"


def _model_path(config_path: str) -> str:
    role, _, rest = config_path.partition("/")
    return f"model/{rest}".rstrip("/") if role in ROLES else config_path


class FileConfigSource(_FileConfigSource):
    """Hydra's own source of files, in which `student` and `teacher` are two names of the group `model`."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file, and note it where it is a strategy."""
        if config_path.removesuffix(".yaml") == PRIMARY:
            _composed.clear()
        result = super().load_config(_model_path(config_path))
        group, _, name = config_path.partition("/")
        if group == "strategy" and name:
            _composed[name.removesuffix(".yaml")] = result.config
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
        if config_path == "" and "model" in entries:
            entries = sorted(set(entries) - {"model"} | set(ROLES))
        return entries


class StructuredConfigSource(_StructuredConfigSource):
    """Hydra's own source of what plugins registered; it only reads, so a copy of it is the source itself."""

    def __deepcopy__(self, memo: dict[int, Any]) -> StructuredConfigSource:
        """Hydra copies every source for every group that `--help` lists, with all the configs in it."""
        return self


def register() -> None:
    """Make Hydra read through the sources above; call before any composition."""
    Plugins.instance()  # registers Hydra's own sources, which ours then replace
    SourcesRegistry.instance().types |= {"file": FileConfigSource, "structured": StructuredConfigSource}
    node = {"_target_": TUNE, "trials": 20, "at_once": 1, "space": None, "params": None}
    ConfigStore.instance().store(group="hydra/sweeper", name="tune", node=node, provider="distillab")


register()


def compose(overrides: list[str]) -> Any:
    """One resolved config, as `train.py` would get it from these overrides (for tests and notebooks)."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose(PRIMARY, overrides=overrides)


def did_you_mean(word: str, allowed: list[str]) -> str:
    """`; did you mean "hint"?` where a name is close to an allowed one, else nothing."""
    close = get_close_matches(str(word), allowed, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def locate(target: str, path: str) -> Callable[..., Any]:
    """The class or function that a `_target_` names.

    Raises:
        UserError: nothing importable has that name.
    """
    from hydra.utils import get_object

    try:
        found = get_object(target)
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f'{path}._target_: cannot import "{target}" ({reason}); it needs package.module.Name, '
            f"importable from the current folder"
        ) from error
    if not callable(found):
        raise UserError(f'{path}._target_: "{target}" is not a class or a function')
    return found


def build(node: Mapping[str, Any], path: str, **given: Any) -> Any:
    """Call what `node._target_` names with the node's other keys and `given`: the only place that instantiates.

    Args:
        node: a config with `_target_`; its keys are the target's arguments.
        path: where the node stands in the config, for messages.
        given: arguments that come from the program; the node's keys win.

    Raises:
        UserError: no `_target_`, a key the target does not take, a missing argument, or the target's own complaint.
    """
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    if node.get("_target_") in (None, "???"):
        raise UserError(f"{path}._target_ is missing: name a class, e.g. {path}._target_=my_package.MyClass")
    factory = locate(node["_target_"], path)
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    allowed = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for key in arguments:
        if key not in allowed and not takes_any:
            raise UserError(
                f'{path}.{key}: {node["_target_"]} has no argument "{key}"{did_you_mean(key, allowed)} '
                f"(allowed: {', '.join(allowed)}); remove it with ~{path}.{key}"
            )
    arguments = given | arguments
    for name in allowed:
        if parameters[name].default is inspect.Parameter.empty and arguments.get(name, "???") == "???":
            raise UserError(f"{path}.{name} is missing: set it with {path}.{name}=…")
    try:
        return factory(**arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {node['_target_']} refused its arguments: {error}") from error


def accepted(factory: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that the signature of `factory` names."""
    parameters = inspect.signature(factory).parameters
    return {name: value for name, value in offered.items() if name in parameters}


def strategy_label(strategy: Mapping[str, Any]) -> str:
    """The name of a strategy: the files it was composed from, or its terms."""
    if _composed:
        return "+".join(composed_strategies())
    return "+".join(name for name in strategy if name not in ("ce", "phases")) or "none"


def strategy_conflicts() -> list[str]:
    """One line per number on which two chosen strategy files disagree, and for their phases (the last one wins)."""
    lines = []
    seen: dict[tuple[str, str], tuple[str, Any]] = {}
    for name, config in composed_strategies().items():
        for term, numbers in config.items():
            if term == "phases":
                first, other = seen.get((term, ""), (name, numbers))
                if other != numbers:
                    lines.append(
                        f"strategy.phases: {first} and {name} have their own; those of {name} it is, and a term that "
                        f"they do not name acts in the last (strategy.phases=[…] decides)"
                    )
                seen[term, ""] = (name, numbers)
            for key, value in numbers.items() if isinstance(numbers, Mapping) else ():
                first, other = seen.get((term, key), (name, value))
                if other != value:
                    lines.append(
                        f"strategy.{term}.{key}: {first} says {other}, {name} says {value}; {value} it is "
                        f"(strategy.{term}.{key}=… decides)"
                    )
                seen[term, key] = (name, value)
    return lines
