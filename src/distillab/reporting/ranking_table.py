"""The report's leaderboard, one line a row of the comparison: as tables for the page, as raw numbers for the CSV."""

from __future__ import annotations

from typing import Any

from distillab.reporting.gains import Gain
from distillab.reporting.metric_table import NOTHING, RANKED, Metric, metric, percent
from distillab.reporting.ranking import by_place
from distillab.reporting.rows import Row
from distillab.reporting.tables import Table, table, text

FILTERS = ("data", "protocol", "student", "method")


def interval(low: float | None, high: float | None, shown: Metric, *, signed: bool = True) -> str:
    """An interval in words, of a gain or, without a sign, of a figure."""
    form = shown.difference if signed else shown.form
    return NOTHING if low is None or high is None else f"{form(low)} to {form(high)}"


def p_value(p: float | None) -> str:
    """A p with three decimals."""
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def figure(key: str, value: float | None) -> list[Any]:
    """A figure's cell, with the number to sort it by."""
    return [metric(key).form(value), value]


def leaderboard(rows: list[Row]) -> list[Table]:
    """One table a ranking, best mean first; `filters` holds what the drop-downs choose by, one entry a row."""
    rankings = []
    for name, members in by_place(rows).items():
        lines = [_cells(row) for row in members]
        known = [key for key in lines[0] if any(_text(line[key]) != NOTHING for line in lines)]
        filters = [{key: getattr(row, key) for key in FILTERS} for row in members]
        shown = table(known, ([line[key] for key in known] for line in lines))
        rankings.append({"title": name, "filters": filters, **shown})
    return rankings


def _text(cell: str | list[Any]) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _cells(row: Row) -> dict[str, Any]:
    """The columns by their headings; one that no row has anything for is left out."""
    name, shown, gain, equal = row.primary.name, row.metric, row.gain, row.equal_compute
    deviation = "" if row.deviation is None else f" ± {shown.form(row.deviation)}"
    costs = {metric(key).heading: figure(key, row.figure(key)) for key in RANKED}
    low, high, p = (gain and getattr(gain, key) for key in ("low", "high", "p_holm"))
    return {
        "rank": [str(row.rank), row.rank],
        **{key: text(getattr(row, key)) for key in ("method", "student", "teacher", "labels", "changed")},
        shown.heading: [shown.form(row.mean) + deviation, row.mean],
        "its 95 % interval": [interval(row.low, row.high, shown, signed=False), row.low],
        **{metric(key).heading: figure(key, row.figure(key)) for key in (f"{name}_best", f"{name}_last")},
        "gain": [shown.difference(gain and gain.mean), gain and gain.mean],
        "95 % interval": [interval(low, high, shown), low],
        "p (Holm)": [p_value(p), p],
        "gap closed %": [percent(row.gap_closed, 0), row.gap_closed],
        "gain at equal compute": [shown.difference(equal and equal.mean), equal and equal.mean],
        "in words": text(row.words),
        **dict(list(costs.items())[:3]),
        "measured on": text(row.measured_on),
        **dict(list(costs.items())[3:]),
        "seeds": text(_seeds(row)),
        "epochs": [text(row.epochs), row.epochs],
        "training images": [text(row.train), row.train],
    }


def _seeds(row: Row) -> str:
    return " ".join(map(str, row.seeds))


def record(row: Row) -> dict[str, Any]:
    """The line of the CSV: raw numbers."""
    name = row.primary.name
    beside = ("balanced_accuracy", "macro_f1", f"{name}_best", f"{name}_last")
    return {
        **{key: getattr(row, key) for key in ("data", "train", "protocol", "rank")},
        **{key: getattr(row, key) for key in ("method", "student", "teacher", "epochs", "labels", "changed")},
        "seeds": _seeds(row),
        name: row.mean,
        "deviation": row.deviation,
        f"{name}_low": row.low,
        f"{name}_high": row.high,
        **{key: row.figure(key) for key in beside},
        **_numbers("gain", row.gain),
        "gap_closed": row.gap_closed,
        **_numbers("equal_compute_gain", row.equal_compute),
        **{key: row.figure(key) for key in RANKED},
        "measured_on": row.measured_on,
        "front": " ".join(row.front),
        "words": row.words,
        "runs": " ".join(result.config_hash for result in row.results),
    }


def _numbers(name: str, gain: Gain | None) -> dict[str, float | None]:
    """A gain's columns; the mean has the gain's name alone."""
    keys = {"mean": "", "low": "_low", "high": "_high", "p": "_p", "p_holm": "_p_holm", "smallest": "_smallest_shown"}
    return {name + ending: gain and getattr(gain, key) for key, ending in keys.items()}
