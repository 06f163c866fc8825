"""Values of a config, checked where they come in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from distillab.core.errors import UserError


def is_number(value: Any, low: float = -math.inf, high: float = math.inf, kind: type = Real) -> bool:
    """Whether a value is a number from `low` to `high`, both allowed; `numbers.Integral` asks for a whole one."""
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


def require(path: str, value: Any, allowed: bool, *, what: str, instead: Any) -> None:
    """Raise UserError unless a value at `path` of the config is allowed; `what` says what is, `instead` is one such."""
    if not allowed:
        raise UserError(f"{path} is {what}, not {value!r}: {path}={instead}")


def require_keys(path: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError where there is a key that is not known."""
    known = list(known)
    if unknown := sorted(set(keys) - set(known)):
        raise UserError(f"{path} has no {', '.join(unknown)}; it has {', '.join(known)}: ~{path}.{unknown[0]}")
