"""The comparison as a person reads it, in Markdown, and as a machine does, in CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from distillab.files import replacing
from distillab.tracking.comparison import Pair, Row, against_each_other
from distillab.tracking.table import NOTHING, percent, points

METHODS = ("method", "teacher", "seeds", "top-1 %", "95 % interval", "gain", "95 % interval", "p", "what it shows")
METHODS_CAPTION = (
    "Top-1: mean ± standard deviation over the seeds. Gain: points of top-1 over the same student, seed and schedule "
    "trained without a teacher; t intervals. p: paired t-test by Holm's correction over the methods with one teacher. "
    "What could have been shown: the gain that would have been found in 80 % of such studies."
)
PAIRS = ("method", "against", "seeds", "difference", "95 % interval", "p", "what it shows")
PAIRS_CAPTION = "Each against each on the same seeds; p by Holm's correction over the pairs with one teacher."
NUMBERS = ("seeds", "top-1 %", "95 % interval", "gain", "difference", "p")


def markdown(rows: Sequence[Row]) -> str:
    """Two tables for each ranking: the methods by teacher and mean, and where there are several, each against each."""
    parts = []
    for (data, protocol, student, *_), members in groupby(
        sorted(rows, key=attrgetter("ranking")), attrgetter("ranking")
    ):
        ranked = list(members)
        sizes = [f"{ranked[0].train} training images" * (ranked[0].train is not None)]
        sizes.append(f"{ranked[0].epochs} epochs" * (ranked[0].epochs is not None))
        parts.append("### " + ", ".join([data, *filter(None, sizes), f"protocol {protocol}, student {student}"]))
        parts += [_table(METHODS, [_method_cells(row) for row in ranked]), METHODS_CAPTION]
        if pairs := against_each_other(ranked):
            parts += [_table(PAIRS, [_pair_cells(pair) for pair in pairs]), PAIRS_CAPTION]
    return "\n\n".join(parts or ["No results yet."]) + "\n"


def _method_cells(row: Row) -> list[str]:
    spread = "" if row.deviation is None else f" ± {percent(row.deviation)}"
    top1 = [percent(row.mean) + spread, _interval(row.low, row.high, percent)]
    gain = [points(row.gain_mean), _interval(row.gain_low, row.gain_high, points), _p(row.p_holm)]
    return [row.label, row.teacher or NOTHING, str(len(row.seeds)), *top1, *gain, row.words]


def _pair_cells(pair: Pair) -> list[str]:
    interval = _interval(pair.low, pair.high, points)
    numbers = [str(len(pair.seeds)), points(pair.difference), interval, _p(pair.p_holm)]
    return [pair.first.label, pair.second.label, *numbers, pair.words]


def _interval(low: float | None, high: float | None, form: Callable[[float], str]) -> str:
    return NOTHING if low is None else f"{form(low)} to {form(high)}"


def _p(value: float | None) -> str:
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(headings: Sequence[str], rows: list[list[str]]) -> str:
    rule = ["--:" if heading in NUMBERS else "---" for heading in headings]
    lines = [list(headings), rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line a row, shares of one, lists as JSON, and the runs' config hashes; written atomically."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [field.name for field in fields(Row) if field.name != "results"]
        writer.writerow([*names, "runs"])
        for row in rows:
            values = (getattr(row, name) for name in names)
            cells = [json.dumps(value) if isinstance(value, tuple) else value for value in values]
            writer.writerow([*cells, json.dumps([result["config_hash"] for result in row.results])])
