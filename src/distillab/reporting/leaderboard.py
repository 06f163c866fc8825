"""The leaderboard over all runs so far: `runs/leaderboard.csv` for machines, `runs/leaderboard.md` for people."""

import logging
from collections.abc import Callable
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from distillab.core.files import replacing, writable
from distillab.core.result import Result
from distillab.core.result_reader import load_all, rankable, told_apart
from distillab.reporting import tables
from distillab.reporting.metric_table import PLOTTED, gain_note, metric, percent
from distillab.reporting.tables import text

log = logging.getLogger(__name__)

# Key in the CSV → heading, raw value, and form; any form but `text` makes it a column of numbers.
Row = dict[str, tuple[str, Any, Callable[[Any], str]]]


def refresh(runs: Path) -> None:
    """Draw the leaderboard and the plot again, over all runs so far."""
    from distillab.reporting.plots import accuracy_plot  # late, as Altair takes its time

    with writable(runs, "paths.runs=…"):
        if results := update(runs):
            accuracy_plot(results, runs / "accuracy_vs_parameters.png")


def update(runs: Path) -> list[Result]:
    """Rewrite both leaderboards from all results below `runs`: one ranking per data set and protocol, the best first.

    Any number of processes may call it at once. Results that cannot be read are logged and listed at the end; a tuning's
    trials are counted there. Returns what is ranked.
    """
    runs.mkdir(parents=True, exist_ok=True)
    # The lock spans reading too, or a slower process would overwrite a newer leaderboard with what it read earlier.
    with FileLock(runs / ".leaderboard.lock"):
        results, left_out = load_all(runs)
        results, trials = rankable(results)
        rows = _ranked(told_apart(results))
        raw = ({key: value for key, (_, value, _) in row.items()} for _, row in rows)
        tables.write_csv(runs / "leaderboard.csv", raw, first=("data", "protocol"))
        with replacing(runs / "leaderboard.md") as temporary:
            temporary.write_text(_markdown(rows, left_out + trials), encoding="utf-8")
    for line in left_out:
        _tell(line)
    return results


@cache
def _tell(line: str) -> None:
    """Log a line once, not after every cell of a sweep."""
    log.warning(line)


def _place(result: Result) -> tuple[str, str]:
    return result.data.name, result.protocol


def _ranked(results: list[Result]) -> list[tuple[Result, Row]]:
    """By data, protocol and rank; equal scores share a rank, the smaller model first."""

    def order(result: Result) -> tuple[Any, ...]:
        primary, size = result.primary, result.student.efficiency.parameters
        return *_place(result), primary.gain(0, primary.value), size, result.config_hash

    found = []
    for _, ranking in groupby(sorted(results, key=order), _place):
        members = list(ranking)
        ranks = tables.ranks(result.primary.value for result in members)
        found += [(result, _row(result, rank)) for result, rank in zip(members, ranks, strict=True)]
    return found


def _row(result: Result, rank: int) -> Row:
    name, shown, figure = result.primary.name, metric(result.primary.name), result.student.figure
    return {
        "data": ("data", result.data.name, text),
        "protocol": ("protocol", result.protocol, text),
        "rank": ("rank", rank, str),
        "name": ("name", result.name, text),
        "strategy": ("strategy", result.method, text),
        "student": ("student", result.student.name, text),
        "teacher": ("teacher", result.teacher and result.teacher.name, text),
        "seed": ("seed", result.seeds.get("seed"), lambda seed: text(seed)),
        **{key: (metric(key).heading, figure(key), metric(key).form) for key in (name, f"{name}_best", f"{name}_last")},
        "gain": ("gain", result.gain, shown.difference),
        "gap_closed": ("gap closed %", result.gap_closed, lambda share: percent(share, 0)),
        f"teacher_{name}": (f"teacher {shown.heading}", result.score("teacher"), shown.form),
        f"baseline_{name}": (f"student alone {shown.unit}".rstrip(), result.score("baseline"), shown.form),
        **{key: (metric(key).heading, figure(key), metric(key).form) for key in PLOTTED},
        "changed": ("changed", " ".join(result.overrides), text),
        "run": ("run", result.config_hash, text),
    }


def _markdown(rows: list[tuple[Result, Row]], left_out: list[str]) -> str:
    """The rankings as aligned Markdown tables, then the files that were left out."""
    parts = ["# Leaderboard"]
    for (data, protocol), ranking in groupby(rows, lambda one: _place(one[0])):
        parts += [f"## {data}, protocol {protocol}", _table([row for _, row in ranking])]
    shown = [metric(result.primary.name) for result, _ in rows]
    parts.append(gain_note(shown) if rows else "No results yet.")
    if left_out:
        parts += ["## Left out", tables.bullets(left_out)]
    return tables.without_tags("\n\n".join(parts) + "\n")


def _table(rows: list[Row]) -> str:
    """Without the columns that the title tells, and those that are known only where every epoch was tested."""
    columns = [
        key
        for key in rows[0]
        if key not in ("data", "protocol")
        and not (key.endswith(("_best", "_last")) and all(row[key][1] is None for row in rows))
    ]
    lines = [[form(value) for _, value, form in map(row.get, columns)] for row in rows]
    texts = [heading for heading, _, form in map(rows[0].get, columns) if form is text]
    return tables.markdown([rows[0][key][0] for key in columns], lines, texts, aligned=True)
