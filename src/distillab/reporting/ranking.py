"""What the report ranks: the rows of the comparison, each with its rank among the same data and protocol; as tables."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from distillab.core.result import Result
from distillab.core.result_parts import Entry
from distillab.core.result_reader import told_apart
from distillab.reporting.comparison import compare
from distillab.reporting.metric_table import NOTHING, RANKED, metric, percent, samples
from distillab.reporting.rows import Gain, Row
from distillab.reporting.table import sentence
from distillab.reporting.tables import Table, ranks, shown, table, text

TIMED = ("latency_ms", "latency_p95_ms", "latency_batch_ms", "latency_batch_p95_ms")
TIMED += ("latency_spread", "throughput")
FILTERS = ("data", "protocol", "student", "method")


def ranked(results: list[Result]) -> list[Row]:
    """All rows, ordered by data, protocol and mean score; equal means share a rank within their data and protocol."""
    rows = compare(pooled(told_apart(results)))
    rows.sort(key=lambda row: (row.data, row.protocol, -row.sign * row.mean, row.student, row.label))
    found = []
    for members in by_place(rows).values():
        placed = zip(members, ranks(row.mean for row in members), strict=True)
        found += [replace(row, rank=rank, front=_front(row, members)) for row, rank in placed]
    return found


def by_place(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of each data set and protocol, which alone may be ranked together, under the name to show."""
    return {place: list(members) for place, members in groupby(rows, attrgetter("place"))}


def taught_methods(rows: list[Row]) -> list[str]:
    """The methods with a teacher, whose order fixes their colours."""
    return sorted({row.method for row in rows if not row.alone})


def non_dominated(points: list[tuple[float, float]]) -> list[bool]:
    """Which points of cost and worth lie on the front: no other one costs at most as much, is worth as much, and differs."""
    return [
        not any(other[0] <= point[0] and other[1] >= point[1] and other != point for other in points)
        for point in points
    ]


def _front(row: Row, ranking: list[Row]) -> tuple[str, ...]:
    found = []
    for key in RANKED:
        known = [other for other in ranking if other.alone == row.alone and other.figure(key)]
        if key == "latency_ms":
            known = [other for other in known if other.measured_on == row.measured_on]
        marks = non_dominated([(other.figure(key), other.sign * other.mean) for other in known])
        found += [key for other, mark in zip(known, marks, strict=True) if mark and other is row]
    return tuple(found)


def pooled(results: Sequence[Result]) -> list[Result]:
    """The results with each timing's median over all runs that timed the same network on the same machine.

    Without it a network of two methods would lie at two latencies, and a front in latency would be one of noise. Runs that
    timed it while the machine was busy count only where there is no other.
    """
    found: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    entries = [entry for result in results for entry in result.entries.values()]
    quiet = {timed(entry) for entry in entries if entry.efficiency.steady}
    for entry in (entry for entry in entries if entry.efficiency.steady or timed(entry) not in quiet):
        for key in TIMED:
            if (value := entry.figure(key)) is not None:
                found[timed(entry)][key].append(value)
    medians = {network: {key: statistics.median(each) for key, each in by.items()} for network, by in found.items()}

    def steady(entry: Entry) -> Entry:
        efficiency = entry.efficiency.model_copy(update=medians.get(timed(entry)))
        return entry.model_copy(update={"efficiency": efficiency})

    return [one.model_copy(update={role: steady(entry) for role, entry in one.entries.items()}) for one in results]


def timed(entry: Entry) -> tuple[Any, ...]:
    """The network and the machine of a role's entry."""
    measured = entry.efficiency
    return entry.name, measured.parameters, measured.multiply_adds, measured.device, measured.threads


def headline(rows: list[Row]) -> list[str]:
    """One sentence for each family of methods, which one pair, budget and labels make: its best, and how sure it is."""
    families: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        families[row.lesson if row.alone else row.family].append(row)
    taught = {row.lesson for row in rows if not row.alone}
    lines, alone = [], []
    for best, *others in families.values():
        where = f"{best.student} on {best.place}"
        reached = f"{best.metric.words(best.mean)} ({len(best.seeds)} seed{'s' if len(best.seeds) != 1 else ''})"
        if not best.alone:
            which = f"the best of {len(others) + 1} is {best.label}" if others else best.label
            teacher = {"teacher": f"taught by {best.teacher}"} if best.teacher else {}
            told = ", ".join((where, *(teacher | best.apart).values()))
            lines.append(f"{told}: {which} with {reached}. {sentence(best.words)}")
        elif best.lesson not in taught:
            alone.append(f"{', '.join((where, 'trained alone', *best.apart.values()))}: {reached}.")
    return lines + alone


def interval(low: float | None, high: float | None, form: Callable[[float], str]) -> str:
    """An interval in words."""
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
        known = [key for key in lines[0] if any(shown(line[key]) != NOTHING for line in lines)]
        filters = [{key: getattr(row, key) for key in FILTERS} for row in members]
        content = table(known, ([line[key] for key in known] for line in lines))
        rankings.append({"title": name, "filters": filters, **content})
    return rankings


def _cells(row: Row) -> dict[str, Any]:
    """The columns by their headings; one that no row has anything for is left out."""
    name, form, gained = row.primary.name, row.metric.form, row.metric.difference
    deviation = "" if row.deviation is None else f" ± {form(row.deviation)}"
    mean, low, high, p = (row.gain and getattr(row.gain, key) for key in ("mean", "low", "high", "p_holm"))
    equal = row.equal_compute and row.equal_compute.mean

    def figures(keys: Sequence[str]) -> dict[str, Any]:
        return {metric(key).heading: figure(key, row.figure(key)) for key in keys}

    return {
        "rank": [str(row.rank), row.rank],
        **{key: text(getattr(row, key)) for key in ("method", "student", "teacher", "labels", "changed")},
        row.metric.heading: [form(row.mean) + deviation, row.mean],
        "its 95 % interval": [interval(row.low, row.high, form), row.low],
        **figures((f"{name}_best", f"{name}_last")),
        "gain": [gained(mean), mean],
        "95 % interval": [interval(low, high, gained), low],
        "p (Holm)": [p_value(p), p],
        "gap closed %": [percent(row.gap_closed, 0), row.gap_closed],
        "gain at equal compute": [gained(equal), equal],
        "in words": text(row.words),
        **figures(RANKED[:3]),
        "measured on": text(row.measured_on),
        **figures(RANKED[3:]),
        "seeds": " ".join(map(str, row.seeds)),
        "epochs": [text(row.epochs), row.epochs],
        "steps": [text(row.steps), row.steps],
        f"training {samples(row.results[0].task)}": [text(row.train), row.train],
    }


def record(row: Row) -> dict[str, Any]:
    """The line of the CSV: raw numbers."""
    name = row.primary.name
    beside = ("balanced_accuracy", "macro_f1", f"{name}_best", f"{name}_last")
    return {
        **{key: getattr(row, key) for key in ("data", "train", "protocol", "rank")},
        **{key: getattr(row, key) for key in ("method", "student", "teacher", "epochs", "steps", "labels", "changed")},
        "seeds": " ".join(map(str, row.seeds)),
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
