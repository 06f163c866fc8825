"""The folder of a run, which others may have written: what its config names, and whether its weights are the run's."""

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distillab.commands.own_files import check_values
from distillab.core.allowed import Flag
from distillab.core.configuration import RunConfig, Text, TextOrNone
from distillab.core.errors import UserError
from distillab.core.files import file_hash
from distillab.core.group import Group, group
from distillab.core.result import Result
from distillab.core.result_reader import read

TRUST = "trust=true calls it"


@group
class Places(Group):
    """A run's folder, and where its data and its store lie now."""

    run: Text
    trust: Flag = False
    store: TextOrNone = None
    root: TextOrNone = None
    path: TextOrNone = None


def read_config(directory: Path) -> dict[str, Any]:
    """The config of a run's folder in plain Python. Raises UserError where there is none, or none that can be read."""
    file = directory / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"run: {directory} is no folder of a run (config.yaml); name one, e.g. run=runs/digits/0123456789"
        )
    try:
        check_values(file)
        found = OmegaConf.to_container(OmegaConf.load(file))
    except UserError:
        raise
    except Exception as error:  # whatever is no YAML
        raise UserError(f"run: {file} cannot be read as the config of a run") from error
    if not isinstance(found, dict):
        raise UserError(f"run: {file} cannot be read as the config of a run")
    return found


def weights(directory: Path) -> dict[str, str]:
    """SHA-256 of the student's files of weights by their paths in a run's folder."""
    return {name: file_hash(file) for name, file in _weight_files(directory).items()}


def _weight_files(directory: Path) -> dict[str, Path]:
    files = (directory / "student.safetensors", *sorted((directory / "student").glob("*.safetensors")))
    return {file.relative_to(directory).as_posix(): file for file in files if file.is_file()}


def check_weights(directory: Path, told: Mapping[str, str]) -> None:
    """Raise UserError for a file of weights that is gone, or not the one which the result, by its hash, is `told` of."""
    found = _weight_files(directory)
    for name, sha256 in told.items():
        if name not in found:
            raise UserError(f"{directory / name} is not there any more; rerun=true in the run's command makes it again")
        if sha256 != file_hash(found[name]):
            why = "result.json has another SHA-256 for it, so its figures are not this file's"
            raise UserError(f"{directory / name} is not what the run wrote: {why}; rerun=true makes the run again")


def ended(directory: Path) -> Result | None:
    """The result in a run's folder, None before there is one. Raises UserError for one that cannot be read."""
    file = directory / "result.json"
    result, complaint = read(file)
    if result is None and file.exists():
        raise UserError(f"{file} cannot be used: {complaint}; the run's own command makes the run again")
    return result


def where_it_lies(asked: Places, directory: Path) -> dict[str, Any]:
    """The config of a run's folder in plain Python, with its data and its store where they lie now."""
    plain = read_config(directory)
    data, paths = plain.get("data"), plain.get("paths")
    if not isinstance(data, dict) or not isinstance(paths, dict):
        raise UserError(f"run: {directory / 'config.yaml'} cannot be read as the config of a run")
    data = data | {key: place for key, place in (("root", asked.root), ("path", asked.path)) if place}
    if asked.store:
        if data.get("cache_dir") == paths.get("store"):
            data["cache_dir"] = asked.store
        paths = {**paths, "store": asked.store}
    return {**plain, "data": data, "paths": paths}


def typed(plain: Mapping[str, Any], directory: Path) -> RunConfig:
    """Such a config, checked. Raises UserError, which names the file."""
    try:
        return RunConfig.of(plain)
    except UserError as error:
        raise UserError(f"{directory / 'config.yaml'}: {error}") from error


def check_named(config: Mapping[str, Any], directory: Path, mend: str = TRUST) -> None:
    """Raise UserError, which says how to `mend` it, for a `_target_` that is not called as only a file names it.

    Called are classes of distillab that are what their place asks for (data, a task, a scheme, a term of a strategy),
    and networks of distillab, torchvision, timm and transformers. A name is followed through no other module, as
    `distillab.x.torch.load` would be.
    """
    for path, target in _targets(config):
        if not _is_called(path, target):
            why = f"{directory / 'config.yaml'} names {target}, which is not called as only a file names it"
            raise UserError(f"{why}: {mend}")


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every `_target_` of a config, and the path of its node."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node if isinstance(node, list) else ()):
        if key == "_target_":
            yield path, str(value)
        else:
            yield from _targets(value, f"{path}.{key}".lstrip("."))


def _is_called(path: str, target: str) -> bool:
    from distillab.data.module import DataModule
    from distillab.models.builder import builder_of_file
    from distillab.schemes.base import Scheme
    from distillab.strategies.base import Term
    from distillab.tasks.base import Task

    kinds = {"data": DataModule, "task": Task, "scheme": Scheme}
    if path in kinds:
        return _is_own_class(target, kinds[path])
    if path.startswith("strategy."):
        return _is_own_class(target, Term)
    if path in ("student", "teacher") or path.startswith("scheme."):
        try:
            return bool(builder_of_file(target, "", ""))
        except UserError:
            return False
    return False


def _is_own_class(target: str, kind: type) -> bool:
    """Whether a module of distillab defines this class, of such a kind."""
    module, _, name = target.rpartition(".")
    if module.partition(".")[0] != "distillab":
        return False
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return False
    return inspect.isclass(found) and issubclass(found, kind) and found.__module__ == module
