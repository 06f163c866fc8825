"""The leaderboard over all runs so far: `runs/leaderboard.csv` for machines, `runs/leaderboard.md` for people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from distillab.core.files import replacing, writable
from distillab.core.result import Result
from distillab.core.result_reader import load_all, rankable
from distillab.reporting import tables
from distillab.reporting.metric_table import PLOTTED, metric, percent, points

log = logging.getLogger(__name__)

Row = dict[str, Any]
# Heading, value and form of a column; any form but `text` makes it a column of numbers.
Column = tuple[str, Callable[["Result"], Any], Callable[[Any], str]]


def refresh(runs: Path) -> None:
    """Draw the leaderboard and the plot again, over all runs so far."""
    from distillab.reporting.plots import accuracy_plot  # matplotlib takes its time

    with writable(runs, "paths.runs=…"):
        update(runs)
        if results := rankable(load_all(runs)[0])[0]:
            accuracy_plot(results, runs / "accuracy_vs_parameters.png")


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
        tables.write_csv(paths[0], rows, first=("data", "protocol"))
        with replacing(paths[1]) as temporary:
            temporary.write_text(markdown(rows, left_out + trials), encoding="utf-8")
    for line in left_out:
        log.warning(line)
    return paths


def ranked(results: list[Result]) -> list[Row]:
    """One row per result, ordered by data, protocol and rank; equal scores share a rank, the smaller model first."""

    def order(result: Result) -> tuple[Any, ...]:
        primary, size = result.primary, result.student.efficiency.parameters
        return result.data.name, result.protocol, primary.gain(0, primary.value), size, result.config_hash

    rows = []
    for (data, protocol), ranking in groupby(sorted(results, key=order), lambda result: order(result)[:2]):
        members = list(ranking)
        for rank, result in zip(tables.ranks(one.primary.value for one in members), members, strict=True):
            known = {key: value(result) for key, (_, value, _) in _columns(result.primary.name).items()}
            rows.append({"data": data, "protocol": protocol, "rank": rank, **known})
    return rows


def _columns(name: str) -> dict[str, Column]:
    """By the key in the CSV, whose numbers are raw; `name` is the ranking's primary figure."""
    primary, text = metric(name), tables.text

    def figure(key: str) -> Column:
        return metric(key).heading, lambda result: result.student.figure(key), metric(key).form

    def score(role: str, heading: str) -> Column:
        return heading, lambda result: result.score(role), primary.form

    return {
        "name": ("name", lambda result: result.name, text),
        "strategy": ("strategy", lambda result: result.method, text),
        "student": ("student", lambda result: result.student.name, text),
        "teacher": ("teacher", lambda result: result.teacher and result.teacher.name, text),
        "seed": ("seed", lambda result: result.seeds.get("seed"), lambda seed: text(seed)),
        **{key: figure(key) for key in (name, f"{name}_best", f"{name}_last")},
        "gain": ("gain", lambda result: result.gain, points),
        "gap_closed": ("gap closed %", lambda result: result.gap_closed, lambda share: percent(share, 0)),
        f"teacher_{name}": score("teacher", f"teacher {primary.heading}"),
        f"baseline_{name}": score("baseline", f"student alone {primary.unit}".rstrip()),
        **{key: figure(key) for key in PLOTTED},
        "changed": ("changed", lambda result: " ".join(result.overrides), text),
        "run": ("run", lambda result: result.config_hash, text),
    }


def markdown(rows: list[Row], left_out: list[str]) -> str:
    """The rankings as aligned Markdown tables, then the files that were left out."""
    parts = ["# Leaderboard"]
    for (data, protocol), ranking in groupby(rows, lambda row: (row["data"], row["protocol"])):
        parts += [f"## {data}, protocol {protocol}", _table(list(ranking))]
    parts.append(tables.GAIN if rows else "No results yet.")
    if left_out:
        parts += ["## Left out", tables.bullets(left_out)]
    return "\n\n".join(parts) + "\n"


def _table(rows: list[Row]) -> str:
    primary = next(key for key in rows[0] if f"{key}_best" in rows[0])
    columns = {"rank": ("rank", None, str), **_columns(primary)}
    for key in (f"{primary}_best", f"{primary}_last"):  # known where every epoch was tested
        if all(row[key] is None for row in rows):
            del columns[key]
    headings, _, forms = zip(*columns.values(), strict=True)
    lines = [[form(row[key]) for key, form in zip(columns, forms, strict=True)] for row in rows]
    return tables.markdown(headings, lines, [form is not tables.text for form in forms], aligned=True)
