"""YAML files of others, looked at before Hydra or OmegaConf reads them: those of `--config-dir`, and of a run's folder."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from distillab.core.errors import UserError
from distillab.core.instantiate import conf_dir

MOST = 100_000  # values in one file, those that its aliases repeat counted each time


def check_own_files(folder: Path | None) -> None:
    """Raise UserError for a file that Hydra would ignore, as it has the name of a shipped one, or that fills the memory."""
    for path in sorted(folder.rglob("*.yaml")) if folder else ():
        if (conf_dir() / path.relative_to(folder)).is_file():
            raise UserError(f"{path} has the name of a shipped file, which would win; give yours another name")
        with suppress(OSError, yaml.YAMLError):  # Hydra says what is wrong, if the file is chosen
            check_values(path)


def check_values(path: Path) -> None:
    """Raise UserError for a YAML file that fills the memory, or is no text; OSError and YAMLError as they come."""
    try:
        values = _values(yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader), {})
    except RecursionError:
        raise UserError(f"{path} has too many levels of brackets; write it flatter") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8; write it again, or remove it") from None
    if values > MOST:
        raise UserError(f"{path} stands for {values:,} values, as its aliases repeat others; {MOST:,} are allowed")


def _values(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for once its aliases are written out."""
    if id(node) not in known:
        known[id(node)] = 1  # of one that contains itself
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [one for part in parts for one in (part if isinstance(part, tuple) else [part])]
        known[id(node)] = 1 + sum(_values(one, known) for one in flat)
    return known[id(node)]
