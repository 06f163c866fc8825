"""The leaderboard over all runs so far: `runs/leaderboard.csv` for machines, `runs/leaderboard.md` for people."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from distillab.core.files import replacing
from distillab.core.result_reader import load_all, rankable
from distillab.reporting.metric_table import NOTHING, PLOTTED, metric, percent, points

if TYPE_CHECKING:
    from distillab.core.result import Result

log = logging.getLogger(__name__)

Row = dict[str, Any]
# Heading, value and form of a column; any form but `_text` makes it a column of numbers.
Column = tuple[str, Callable[["Result"], Any], Callable[[Any], str]]


def update(runs: Path) -> list[Path]:
    """Rewrite both leaderboards from all results below `runs`: one ranking per data set and protocol, the best first.

    Any number of processes may call it at once. Results that cannot be read are logged and listed at the end; a tuning's
    trials are counted there.

    Returns:
        The two files.
    """
    runs.mkdir(parents=True, exist_ok=True)
    paths = [runs / "leaderboard.csv", runs / "leaderboard.md"]
    # The lock spans reading too, or a slower process would overwrite a newer leaderboard with what it read earlier.
    with FileLock(runs / ".leaderboard.lock"):
        results, left_out = load_all(runs)
        results, trials = rankable(results)
        rows = ranked(results)
        with replacing(paths[0]) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(
                file, list(dict.fromkeys(["data", "protocol", *(key for row in rows for key in row)]))
            )
            writer.writeheader()
            writer.writerows(rows)
        with replacing(paths[1]) as temporary:
            temporary.write_text(markdown(rows, left_out + trials), encoding="utf-8")
    for line in left_out:
        log.warning(line)
    return paths


def ranked(results: list[Result]) -> list[Row]:
    """One row per result, ordered by data, protocol and rank; equal scores share a rank, the smaller model first."""

    def order(result: Result) -> tuple[Any, ...]:
        primary, size = result.primary, result.student.efficiency.parameters
        worth = primary.gain(0, primary.value)
        return result.data.name, result.protocol, worth, size, result.config_hash

    rows = []
    for (data, protocol), members in groupby(sorted(results, key=order), lambda result: order(result)[:2]):
        rank, previous = 0, None
        for position, result in enumerate(members, start=1):
            if result.primary.value != previous:
                rank, previous = position, result.primary.value
            known = {key: value(result) for key, (_, value, _) in _columns(result.primary.name).items()}
            rows.append({"data": data, "protocol": protocol, "rank": rank, **known})
    return rows


def _text(value: Any) -> str:
    return NOTHING if value in (None, "") else str(value).replace("|", "\\|").replace("\n", " ")


def _columns(name: str) -> dict[str, Column]:
    """By the key in the CSV, whose numbers are raw; `name` is the ranking's primary figure."""
    primary = metric(name)

    def figure(key: str) -> Column:
        return metric(key).heading, lambda result: result.student.figure(key), metric(key).form

    return {
        "name": ("name", lambda result: result.name, _text),
        "strategy": ("strategy", lambda result: result.method, _text),
        "student": ("student", lambda result: result.student.name, _text),
        "teacher": ("teacher", lambda result: result.teacher and result.teacher.name, _text),
        "seed": ("seed", lambda result: result.seeds.get("seed"), lambda seed: _text(seed)),
        **{key: figure(key) for key in (name, f"{name}_best", f"{name}_last")},
        "gain": ("gain", lambda result: result.gain, points),
        "gap_closed": ("gap closed %", lambda result: result.gap_closed, lambda share: percent(share, 0)),
        f"teacher_{name}": (f"teacher {primary.heading}", lambda result: result.score("teacher"), primary.form),
        f"baseline_{name}": (
            f"student alone {primary.unit}".rstrip(),
            lambda result: result.score("baseline"),
            primary.form,
        ),
        **{key: figure(key) for key in PLOTTED},
        "changed": ("changed", lambda result: " ".join(result.overrides), _text),
        "run": ("run", lambda result: result.config_hash, _text),
    }


def markdown(rows: list[Row], left_out: list[str]) -> str:
    """The rankings as aligned Markdown tables, then the files that were left out."""
    parts = ["# Leaderboard"]
    for (data, protocol), ranking in groupby(rows, lambda row: (row["data"], row["protocol"])):
        parts += [f"## {data}, protocol {protocol}", _aligned(list(ranking))]
    if not rows:
        parts.append("No results yet.")
    else:
        parts.append("Gain: points of top-1 over the same student, seed and schedule trained without a teacher.")
    if left_out:
        parts += ["## Left out", "\n".join(f"- {line}" for line in left_out)]
    return "\n\n".join(parts) + "\n"


def _aligned(rows: list[Row]) -> str:
    primary, shown = next(key for key in rows[0] if f"{key}_best" in rows[0]), []
    for key, (heading, _, form) in {"rank": ("rank", None, str), **_columns(primary)}.items():
        # Known where every epoch was tested.
        if key in (f"{primary}_best", f"{primary}_last") and all(row[key] is None for row in rows):
            continue
        number = form is not _text
        cells = [heading, *(form(row[key]) for row in rows)]
        width = max(3, *map(len, cells))
        rule = "-" * (width - 1) + ":" if number else "-" * width
        cells = [cell.rjust(width) if number else cell.ljust(width) for cell in cells]
        shown.append([cells[0], rule, *cells[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*shown, strict=True))
