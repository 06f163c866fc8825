"""Finds conf/, and builds objects from the nodes of the config that name a class or a function in `_target_`."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Self

from distillab.core.errors import UserError

PACKAGES = ("distillab", "torchvision", "timm", "transformers")  # of which a file, whoever wrote it, may name a network
CONFIG = "train"  # the file in conf/ that names all others
RENAMED: dict[str, str | None] = {"protocol._target_": None}  # old key → the new one, or None where it has gone
_ZOO = ("cifar_resnet", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "vgg", "wide_resnet")
MOVED = {f"distillab.models.{name}": f"distillab.models.zoo.{name}" for name in _ZOO} | {  # modules, for `_target_`
    "distillab.data.images": "distillab.data.images.sources",
    "distillab.data.datamodule": "distillab.data.images.datamodule",
    "distillab.strategies.two_views": "distillab.strategies.parts.two_views",
    "distillab.sweep": "distillab.commands.sweep",
    "distillab.tune": "distillab.commands.tune",
}


def conf_dir() -> Path:
    """The folder of YAML files: the checkout's where there is one (an editable install), else the wheel's."""
    package = Path(__file__).parents[1]
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / f"{CONFIG}.yaml").is_file() else package / "conf"


@dataclass(frozen=True)
class Target:
    """A class or a function by its dotted name, and the arguments that the config has for it."""

    target: str | None
    arguments: Mapping[str, Any]
    beside: Sequence[str] = ()  # further keys of its node, for messages

    @classmethod
    def of(cls, node: Self | Mapping[str, Any]) -> Self:
        """The target that a node of the config names."""
        if isinstance(node, cls):
            return node
        arguments = dict(node)
        target = arguments.pop("_target_", None)
        return cls(None if target == "???" else target, arguments)

    def get(self, key: str, default: Any = None) -> Any:
        """One of the arguments."""
        return self.arguments.get(key, default)


def did_you_mean(word: str, allowed: Sequence[str]) -> str:
    """`; did you mean "hint"?` where a name is close to an allowed one, else nothing."""
    close = get_close_matches(str(word), allowed, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def unknown_key(parent: str, key: str, allowed: Sequence[str]) -> str:
    """The message about a key that the part of the config at `parent` (empty: the whole config) does not have."""
    path = f"{parent}.{key}" if parent else key
    if path in RENAMED:
        new = RENAMED[path]
        return f"{path} is now {new}: {new}=…" if new else f"{path} has gone; remove it with ~{path}"
    return f'{parent or "the config"} has no "{key}"{did_you_mean(key, allowed)} (allowed: {", ".join(allowed)})'


def locate(target: str | Callable[..., Any], path: str) -> Callable[..., Any]:
    """The class or function that the `_target_` at `path` names, or that stands there itself.

    Raises UserError where nothing has that name, and for the standard library, which has nothing to build here.
    """
    found, name = target, str(target)
    if not callable(target):
        _refuse_standard(name, name, path)
        try:
            found = resolve_name(name)
        except (Exception, SystemExit) as error:  # a script may end the process as soon as it is imported
            module, _, last = name.rpartition(".")
            if module in MOVED:
                new = f"{MOVED[module]}.{last}"
                raise UserError(f"{path}._target_: {target} is now {new}: {path}._target_={new}") from error
            mend = "it needs package.module.Name, importable from the current folder"
            raise UserError(f'{path}._target_: cannot import "{target}" ({_reason(error, module)}); {mend}') from error
    if not callable(found):
        raise UserError(f'{path}._target_: "{target}" is not a class or a function')
    called = found
    while isinstance(called, partial):
        called = called.func
    _refuse_standard(getattr(called, "__module__", None) or type(called).__module__, name, path)
    return found


def _refuse_standard(module: str, target: str, path: str) -> None:
    if module.partition(".")[0] in sys.stdlib_module_names:
        what = f"{target} belongs to Python itself and is not called here"
        raise UserError(f"{path}._target_: {what}; name a class of yours, e.g. {path}._target_=my_package.MyClass")


def _reason(error: BaseException, module: str) -> str:
    """Why a name cannot be imported; `resolve_name` passes over a module that fails to import what it needs."""
    if isinstance(error, AttributeError):
        try:
            import_module(module)
        except ImportError as inner:
            error = error if inner.name == module else inner
        if isinstance(error, AttributeError):
            return f"{error}{did_you_mean(error.name, dir(error.obj))}"
    return (str(error) or type(error).__name__).splitlines()[0]


def build(node: Target | Mapping[str, Any], path: str, **given: Any) -> Any:
    """Call what a node names with its arguments and `given`, of which its own win: the only place that instantiates.

    `path` is where the node stands in the config. Raises UserError for no `_target_`, a key the target does not take, a
    missing argument, or the target's own complaint.
    """
    node = Target.of(node)
    if node.target is None:
        raise UserError(f"{path}._target_ is missing: name a class, e.g. {path}._target_=my_package.MyClass")
    factory = locate(node.target, path)
    arguments = given | dict(node.arguments)
    check_arguments(node, factory, path, arguments)
    try:
        return factory(**arguments)
    except UserError as error:
        said = str(error)
        raise UserError(said if said.startswith((f"{path}.", f"{path}:")) else f"{path}: {said}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {node.target} refused its arguments: {error}") from error


def check_arguments(node: Target, factory: Callable[..., Any], path: str, arguments: Mapping[str, Any]) -> None:
    """Raise UserError where the factory does not take one of the node's arguments, or lacks one."""
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    allowed = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for key in node.arguments:
        if key not in allowed and not takes_any:
            raise UserError(
                f'{path}.{key}: {node.target} has no argument "{key}"{did_you_mean(key, [*allowed, *node.beside])} '
                f"(allowed: {', '.join(allowed)}); remove it with ~{path}.{key}"
            )
    for name in allowed:
        if parameters[name].default is inspect.Parameter.empty and arguments.get(name, "???") == "???":
            raise UserError(f"{path}.{name} is missing: set it with {path}.{name}=…")


def accepted(factory: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that the signature of `factory` names."""
    parameters = inspect.signature(factory).parameters
    return {name: value for name, value in offered.items() if name in parameters}
