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
from distillab.reporting.metric_table import METRICS, NOTHING, metric, percent, points

if TYPE_CHECKING:
    from distillab.core.result import Result

log = logging.getLogger(__name__)

Row = dict[str, Any]


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
        rankings = ranked(results)
        rows = [row for _, _, ranking in rankings for row in ranking]
        with replacing(paths[0]) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            keys = dict.fromkeys(key for row in rows for key in row)
            writer = csv.DictWriter(file, list(keys) or ["data", "protocol", "rank"])
            writer.writeheader()
            writer.writerows(rows)
        with replacing(paths[1]) as temporary:
            temporary.write_text(markdown(rankings, left_out + trials), encoding="utf-8")
    for line in left_out:
        log.warning(line)
    return paths


def ranked(results: list[Result]) -> list[tuple[str, str, list[Row]]]:
    """Data and protocol with the primary figure's name and one row a result; equal ones share a rank, the smaller first."""

    def order(result: Result) -> tuple[Any, ...]:
        primary = result.primary
        worth = -primary.value if primary.higher_is_better else primary.value
        return *_ranking(result), worth, result.student.efficiency.parameters, result.config_hash

    rankings = []
    for (data, protocol), members in groupby(sorted(results, key=order), _ranking):
        place, previous, rows = 0, None, []
        for position, result in enumerate(members, start=1):
            name, value = result.primary.name, result.primary.value
            if value != previous:
                place, previous = position, value
            rows.append(_row(result, place))
        rankings.append((f"{data}, protocol {protocol}", name, rows))
    return rankings


def _ranking(result: Result) -> tuple[str, str]:
    return result.data.name, result.protocol


def _row(result: Result, rank: int) -> Row:
    student, name = result.student, result.primary.name
    return {
        "data": result.data.name,
        "protocol": result.protocol,
        "rank": rank,
        "name": result.name,
        "strategy": result.method,
        "student": student.name,
        "teacher": result.teacher and result.teacher.name,
        "seed": result.seeds.get("seed"),
        name: result.primary.value,
        f"{name}_best": student.figure(f"{name}_best"),
        f"{name}_last": student.figure(f"{name}_last"),
        "gain": result.gain,
        "gap_closed": result.gap_closed,
        f"teacher_{name}": result.score("teacher"),
        f"baseline_{name}": result.score("baseline"),
        **{key: student.figure(key) for key in COSTS},
        "changed": " ".join(result.overrides),
        "run": result.config_hash,
    }


def _text(value: Any) -> str:
    return NOTHING if value in (None, "") else str(value).replace("|", "\\|").replace("\n", " ")


COSTS = ("parameters", "multiply_adds", "latency_ms")


def columns(name: str) -> dict[str, tuple[str, Callable[[Any], str], bool]]:
    """Column of the CSV (raw numbers) → its heading and form in Markdown, and whether it is a number there.

    Args:
        name: of the ranking's primary figure.
    """
    primary, best, last = metric(name), metric(f"{name}_best"), metric(f"{name}_last")
    return {
        "rank": ("rank", _text, True),
        "name": ("name", _text, False),
        "strategy": ("strategy", _text, False),
        "student": ("student", _text, False),
        "teacher": ("teacher", _text, False),
        "seed": ("seed", _text, True),
        name: (primary.heading, primary.form, True),
        f"{name}_best": (best.heading, best.form, True),
        f"{name}_last": (last.heading, last.form, True),
        "gain": ("gain", points, True),
        "gap_closed": ("gap closed %", lambda value: percent(value, 0), True),
        f"teacher_{name}": (f"teacher {primary.heading}", primary.form, True),
        f"baseline_{name}": (f"student alone {primary.unit}".rstrip(), primary.form, True),
        **{key: (METRICS[key].heading, METRICS[key].form, True) for key in COSTS},
        "changed": ("changed", _text, False),
        "run": ("run", _text, False),
    }


def markdown(rankings: list[tuple[str, str, list[Row]]], left_out: list[str]) -> str:
    """The rankings as aligned Markdown tables, then the files that were left out."""
    parts = ["# Leaderboard"]
    for title, name, rows in rankings:
        parts += [f"## {title}", _aligned(name, rows)]
    if not rankings:
        parts.append("No results yet.")
    else:
        parts.append("Gain: points of top-1 over the same student, seed and schedule trained without a teacher.")
    if left_out:
        parts += ["## Left out", "\n".join(f"- {line}" for line in left_out)]
    return "\n\n".join(parts) + "\n"


def _aligned(name: str, rows: list[Row]) -> str:
    shown = []
    for key, (heading, form, number) in columns(name).items():
        # Known where every epoch was tested.
        if key in (f"{name}_best", f"{name}_last") and all(row[key] is None for row in rows):
            continue
        cells = [heading, *(form(row[key]) for row in rows)]
        width = max(3, *map(len, cells))
        rule = "-" * (width - 1) + ":" if number else "-" * width
        cells = [cell.rjust(width) if number else cell.ljust(width) for cell in cells]
        shown.append([cells[0], rule, *cells[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*shown, strict=True))
