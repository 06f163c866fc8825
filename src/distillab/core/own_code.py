"""The person's own code, outside installed packages: what was made by other code is another run, another network."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}
KNOWN = Path(sysconfig.get_path("stdlib")), Path(__file__).parents[1]  # Python's own code, and ours


def own_code(*names: str) -> str | None:
    """SHA-256 of the source of all own modules that these dotted names need, by way of imports too; None without one."""
    found: dict[str, bytes] = {}
    for name in names:
        _collect(name, found)
    parts = [f"{name} {hashlib.sha256(found[name]).hexdigest()}" for name in sorted(found)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else None


def code_of(config: Any) -> str | None:
    """`own_code` of every `_target_` in a config."""
    return own_code(*sorted(set(_targets(config))))


def name_of(kind: type) -> str:
    """The dotted name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        target = str(node.get("_target_"))
        if all(map(str.isidentifier, target.split("."))):  # no finder need understand anything else
            yield target
        node = list(node.values())
    if isinstance(node, list | tuple):
        for inner in node:
            yield from _targets(inner)


def _collect(dotted: str, found: dict[str, bytes]) -> None:
    """Add the own modules on the way to a dotted name, and those that they import. Nothing is executed."""
    places = None
    for name in accumulate(dotted.split("."), "{}.{}".format):
        spec = _find(name, places)
        if spec is None or (spec.origin is not None and not _is_own(spec.origin)):
            return
        places = spec.submodule_search_locations
        if spec.origin is not None and name not in found:
            found[name] = source(spec.origin)
            for needed in _imported(found[name], name if places is not None else name.rpartition(".")[0]):
                _collect(needed, found)
        if places is None:
            return


@cache  # as Python imports a module once: a file that is edited while a run goes on changes nothing of the run
def source(path: str) -> bytes:
    """The text of a file, read once in a process; the ends of its lines are those of every machine."""
    return Path(path).read_bytes().replace(b"\r\n", b"\n")


def _find(name: str, places: Any) -> ModuleSpec | None:
    specs = (finder.find_spec(name, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in specs if spec is not None), None)


def _is_own(origin: str) -> bool:
    path = Path(origin)
    return path.is_file() and not INSTALLED & set(path.parts) and not any(map(path.is_relative_to, KNOWN))


def _imported(source: bytes, package: str) -> Iterator[str]:
    """The dotted names that a module of this package imports, wherever in it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a compiled module; a broken one is refused where it is imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)
