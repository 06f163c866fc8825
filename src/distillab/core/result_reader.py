"""Reads results back: those of one file or of all runs, whoever wrote or edited them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distillab.core.result import SCHEMA

Result = dict[str, Any]

_REQUIRED = {
    "config_hash": str,
    "created": str,
    "data": dict,
    "name": str,
    "protocol": str,
    "seeds": dict,
    "strategy": str,
    "student": dict,
}


def load_all(runs: Path) -> tuple[list[Result], list[str]]:
    """All results at `runs/*/*/result.json`, in the order of their paths.

    Returns:
        The results, and one line for each file that was left out (half-written, of another schema, or broken by hand).
    """
    results, left_out = [], []
    for path in sorted(runs.glob("*/*/result.json")):
        result, complaint = read(path)
        if result is None:
            left_out.append(f"{path} is left out: {complaint}")
        else:
            results.append(result)
    return results, left_out


def read(path: Path) -> tuple[Result | None, str | None]:
    """The result that a file holds and None, or None and what keeps the file from being one."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return None, f"it cannot be read ({error})"
    complaint = _complaint(result)
    return (None, complaint) if complaint else (result, None)


def rankable(results: list[Result]) -> tuple[list[Result], list[str]]:
    """The results that may be ranked, and a line where trials of a tuning are not among them.

    The best of many trials would win by their number.
    """
    kept = [result for result in results if "sweep=tune" not in (result.get("overrides") or [])]
    trials = len(results) - len(kept)
    if not trials:
        return kept, []
    which = "1 trial of a tuning is" if trials == 1 else f"{trials} trials of a tuning are"
    return kept, [f"{which} not ranked here: sweeps/*/tune.md compares them"]


# What wrong types, missing keys and non-finite numbers raise; anything else is a fault of the reader's own.
MALFORMED = (AttributeError, KeyError, IndexError, TypeError, ValueError, ArithmeticError)


def usable(results: list[Result], use: Callable[[list[Result]], Any]) -> tuple[list[Result], list[str]]:
    """The results that can be used together, and a line for each other one: edited by hand, or of another version."""
    try:
        use(results)
        return results, []
    except MALFORMED:
        kept, broken = [], []
        for result in results:
            try:
                use([*kept, result])
                kept.append(result)
            except MALFORMED as error:
                what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                where = f"{result['name']}/{result['config_hash']}/result.json"
                broken.append(f"{where} is left out: its contents have not the form that this version reads ({what})")
        return kept, broken


def _complaint(result: Any) -> str | None:
    """What keeps a parsed file from being a result, or None."""
    if not isinstance(result, dict) or "schema" not in result:
        return "it is not a result (no schema)"
    if result["schema"] != SCHEMA:
        return f"its schema is {result['schema']!r}, this version reads {SCHEMA}"
    for key, kind in _REQUIRED.items():
        if not isinstance(result.get(key), kind):
            return f"`{key}` is missing or not a {kind.__name__}"
    if not isinstance(result["data"].get("name"), str):
        return "`data.name` is missing or not a str"
    for name, seed in result["seeds"].items():
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            return f"`seeds.{name}` is {seed!r}, not a whole number"
    if not _is_list_of_words(result.get("overrides") or []):
        return f"`overrides` is {result['overrides']!r}, not a list of words"
    for role in ("teacher", "baseline", "student"):
        if result.get(role) is not None and (complaint := _model_complaint(role, result[role])):
            return complaint
    for key in ("gain", "gap_closed"):
        if result.get(key) is not None and not _is_number(result[key]):
            return f"`{key}` is {result[key]!r}, not a number"
    return None


def _model_complaint(role: str, model: Any) -> str | None:
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        return f"`{role}.name` is missing or not a str"
    top1, count = model.get("top1"), model.get("parameters")
    if not _is_number(top1) or not 0 <= top1 <= 1:
        return f"`{role}.top1` is {top1!r}, not a number from 0 to 1"
    if not _is_number(count) or count <= 0:
        return f"`{role}.parameters` is {count!r}, not a positive number"
    for key in ("multiply_adds", "latency_ms", "size_bytes", "top1_validation", "top1_best", "top1_last"):
        if model.get(key) is not None and not _is_number(model[key]):
            return f"`{role}.{key}` is {model[key]!r}, not a number"
    return None


def _is_list_of_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
