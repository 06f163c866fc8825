"""What the report ranks: the rows of the comparison, each with its rank among the same data and protocol."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from distillab.core.result import Result, Role, gain_and_gap
from distillab.core.result_parts import Entry
from distillab.evaluation.cost_words import machine
from distillab.reporting.comparison import Row, compare
from distillab.reporting.gains import Gain
from distillab.reporting.metric_table import RANKED, percent
from distillab.reporting.table import sentence
from distillab.reporting.tables import ranks

TIMED = ("latency_ms", "latency_p95_ms", "latency_batch_ms", "latency_batch_p95_ms", "throughput")


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone, with their rank by mean score within their data and protocol.

    `front` holds the costs in which no other distilled student (of a student alone, no other one) beats it there.
    """

    row: Row
    rank: int
    front: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Method, what was changed, student, and what else sets it apart: `kd, resnet8, taught by resnet56`."""
        return ", ".join((self.row.label, self.row.student, *self.row.apart.values()))

    @property
    def gap_closed(self) -> float | None:
        """The share of the gap to the teacher that was closed, from the means over the runs with both beside them."""
        known = [result for result in self.row.results if result.baseline and result.teacher]
        if self.row.gain is None or not known:
            return None
        roles = ("student", "baseline", "teacher")
        scores = (statistics.fmean(result.score(role) for result in known) for role in roles)
        return gain_and_gap(*scores, self.row.primary)[1]

    def mean(self, role: Role, key: str) -> float | None:
        """The mean of a figure of one role over the runs that have it."""
        return mean([result.entries[role] for result in self.row.results if role in result.entries], key)

    @property
    def measured_on(self) -> str:
        """Where the student was timed: latencies compare there alone."""
        return machine(self.row.results[-1].student.efficiency)

    @property
    def record(self) -> dict[str, Any]:
        """The line of the leaderboard: raw numbers."""
        row, name = self.row, self.row.primary.name
        beside = ("balanced_accuracy", "macro_f1", f"{name}_best", f"{name}_last")
        return {
            **{key: getattr(row, key) for key in ("data", "train", "protocol")},
            "rank": self.rank,
            **{key: getattr(row, key) for key in ("method", "student", "teacher", "epochs", "labels", "changed")},
            "seeds": " ".join(map(str, row.seeds)),
            name: row.mean,
            "deviation": row.deviation,
            f"{name}_low": row.low,
            f"{name}_high": row.high,
            **{key: self.mean("student", key) for key in beside},
            **_numbers("gain", row.gain),
            "gap_closed": self.gap_closed,
            **_numbers("equal_compute_gain", row.equal_compute),
            **{key: self.mean("student", key) for key in RANKED},
            "measured_on": self.measured_on,
            "front": " ".join(self.front),
            "words": row.words,
            "runs": " ".join(result.config_hash for result in row.results),
        }


def _numbers(name: str, gain: Gain | None) -> dict[str, float | None]:
    """A gain's columns; the mean has the gain's name alone."""
    keys = {"mean": "", "low": "_low", "high": "_high", "p": "_p", "p_holm": "_p_holm", "smallest": "_smallest_shown"}
    return {name + ending: gain and getattr(gain, key) for key, ending in keys.items()}


def mean(entries: list[Entry], key: str) -> float | None:
    """The mean of a figure over the entries that have it; None where none has."""
    known = [figure for entry in entries if (figure := entry.figure(key)) is not None]
    return statistics.fmean(known) if known else None


def ranked(results: list[Result]) -> list[Group]:
    """All groups, ordered by data, protocol and mean score; equal means share a rank within their data and protocol."""
    rows = compare(pooled(results))
    rows.sort(key=lambda row: (row.data, row.protocol, -row.sign * row.mean, row.student, row.label))
    groups = []
    for _, ranking in groupby(rows, lambda row: row.place):
        placed = list(ranking)
        members = list(map(Group, placed, ranks(row.mean for row in placed)))
        groups += [replace(member, front=_front(member, members)) for member in members]
    return groups


def non_dominated(points: list[tuple[float, float]]) -> list[bool]:
    """Which points of cost and worth lie on the front: no other one costs at most as much, is worth as much, and differs."""
    return [
        not any(other[0] <= point[0] and other[1] >= point[1] and other != point for other in points)
        for point in points
    ]


def _front(group: Group, ranking: list[Group]) -> tuple[str, ...]:
    found = []
    for key in RANKED:
        known = [other for other in ranking if other.row.alone == group.row.alone and other.mean("student", key)]
        if key == "latency_ms":
            known = [other for other in known if other.measured_on == group.measured_on]
        marks = non_dominated([(other.mean("student", key), other.row.sign * other.row.mean) for other in known])
        found += [key for other, mark in zip(known, marks, strict=True) if mark and other is group]
    return tuple(found)


def pooled(results: Sequence[Result]) -> list[Result]:
    """The results with each timing's median over all runs that timed the same network on the same machine.

    Without it a network of two methods would lie at two latencies, and a front in latency would be one of noise.
    """
    found: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in (entry for result in results for entry in result.entries.values()):
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


def by_ranking(groups: list[Group]) -> dict[str, list[Group]]:
    """The groups of each data set and protocol, which alone may be ranked together, under the name to show."""
    return {name: list(members) for name, members in groupby(groups, lambda group: group.row.place)}


def headline(groups: list[Group]) -> list[str]:
    """One sentence for each family of methods, which one pair, budget and labels make: its best, and how sure it is."""
    taught: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in (group.row for group in groups if not group.row.alone):
        taught[row.family].append(row)
    lines = []
    for members in taught.values():
        best = members[0]
        which = f"the best of {len(members)} is {best.label}" if len(members) > 1 else best.label
        teacher = {"teacher": f"taught by {best.teacher}"} if best.teacher else {}
        where = (f"{best.student} on {best.place}", *(teacher | best.apart).values())
        lines.append(f"{', '.join(where)}: {which} with {_reached(best)}. {sentence(best.words)}")
    compared = {(row.ranking, row.labelled) for members in taught.values() for row in members}
    best_alone: dict[tuple[Any, ...], Row] = {}
    for row in (group.row for group in groups if group.row.alone):
        best_alone.setdefault((row.ranking, row.labelled), row)
    for lesson, row in best_alone.items():
        where = (f"{row.student} on {row.place}", "trained alone", *row.apart.values())
        lines += [f"{', '.join(where)}: {_reached(row)}."] if lesson not in compared else []
    return lines


def _reached(row: Row) -> str:
    return f"{percent(row.mean)} % ({len(row.seeds)} seed{'s' if len(row.seeds) != 1 else ''})"
