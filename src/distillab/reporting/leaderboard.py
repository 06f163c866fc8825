"""The leaderboard over all runs so far: `runs/leaderboard.csv` for machines, `runs/leaderboard.md` for people."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from distillab.core.files import replacing
from distillab.core.result import method
from distillab.core.result_reader import load_all, rankable
from distillab.reporting.table import NOTHING, count, milliseconds, percent, points

log = logging.getLogger(__name__)

Row = dict[str, Any]
PAPER = ("top1_best", "top1_last")  # known where every epoch was tested


def update(runs: Path) -> list[Path]:
    """Rewrite both leaderboards from all results below `runs`: one ranking per data set and protocol, best top-1 first.

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
            writer = csv.DictWriter(file, ["data", "protocol", *COLUMNS])
            writer.writeheader()
            writer.writerows(rows)
        with replacing(paths[1]) as temporary:
            temporary.write_text(markdown(rows, left_out + trials), encoding="utf-8")
    for line in left_out:
        log.warning(line)
    return paths


def ranked(results: list[dict[str, Any]]) -> list[Row]:
    """One row per result, ordered by data, protocol and rank; equal top-1 shares a rank, the smaller model first."""
    rows = sorted(map(_row, results), key=lambda row: (*_ranking(row), -row["top1"], row["parameters"], row["run"]))
    for _, ranking in groupby(rows, _ranking):
        place, previous = 0, None
        for position, row in enumerate(ranking, start=1):
            if row["top1"] != previous:
                place, previous = position, row["top1"]
            row["rank"] = place
    return rows


def _ranking(row: Row) -> tuple[str, str]:
    return row["data"], row["protocol"]


def _row(result: dict[str, Any]) -> Row:
    student, teacher, baseline = (result.get(role) or {} for role in ("student", "teacher", "baseline"))
    return {
        "data": result["data"]["name"],
        "protocol": result["protocol"],
        "rank": 0,
        "name": result["name"],
        "strategy": method(result),
        "student": student["name"],
        "teacher": teacher.get("name"),
        "seed": result["seeds"].get("seed"),
        "top1": student["top1"],
        "top1_best": student.get("top1_best"),
        "top1_last": student.get("top1_last"),
        "gain": result.get("gain"),
        "gap_closed": result.get("gap_closed"),
        "teacher_top1": teacher.get("top1"),
        "baseline_top1": baseline.get("top1"),
        "parameters": student["parameters"],
        "multiply_adds": student.get("multiply_adds"),
        "latency_ms": student.get("latency_ms"),
        "changed": " ".join(result.get("overrides") or []),
        "run": result["config_hash"],
    }


def _text(value: Any) -> str:
    return NOTHING if value in (None, "") else str(value).replace("|", "\\|").replace("\n", " ")


# Column of the CSV (fractions and plain counts) → its heading and form in Markdown, and whether it is a number there.
COLUMNS: dict[str, tuple[str, Callable[[Any], str], bool]] = {
    "rank": ("rank", _text, True),
    "name": ("name", _text, False),
    "strategy": ("strategy", _text, False),
    "student": ("student", _text, False),
    "teacher": ("teacher", _text, False),
    "seed": ("seed", _text, True),
    "top1": ("top-1 %", percent, True),
    "top1_best": ("best epoch on test %", percent, True),
    "top1_last": ("last epoch %", percent, True),
    "gain": ("gain", points, True),
    "gap_closed": ("gap closed %", lambda value: percent(value, 0), True),
    "teacher_top1": ("teacher top-1 %", percent, True),
    "baseline_top1": ("student alone %", percent, True),
    "parameters": ("parameters", count, True),
    "multiply_adds": ("multiply-adds", count, True),
    "latency_ms": ("latency ms", milliseconds, True),
    "changed": ("changed", _text, False),
    "run": ("run", _text, False),
}


def markdown(rows: list[Row], left_out: list[str]) -> str:
    """The rankings as aligned Markdown tables, then the files that were left out."""
    parts = ["# Leaderboard"]
    for (data, protocol), ranking in groupby(rows, _ranking):
        parts += [f"## {data}, protocol {protocol}", _aligned(list(ranking))]
    if not rows:
        parts.append("No results yet.")
    else:
        parts.append("Gain: points of top-1 over the same student, seed and schedule trained without a teacher.")
    if left_out:
        parts += ["## Left out", "\n".join(f"- {line}" for line in left_out)]
    return "\n\n".join(parts) + "\n"


def _aligned(rows: list[Row]) -> str:
    columns = []
    for key, (heading, form, number) in COLUMNS.items():
        if key in PAPER and all(row[key] is None for row in rows):
            continue
        cells = [heading, *(form(row[key]) for row in rows)]
        width = max(3, *map(len, cells))
        rule = "-" * (width - 1) + ":" if number else "-" * width
        cells = [cell.rjust(width) if number else cell.ljust(width) for cell in cells]
        columns.append([cells[0], rule, *cells[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))
