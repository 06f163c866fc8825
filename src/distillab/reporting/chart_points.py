"""The models that the accuracy charts show, on the page and as a picture: one point each, from all runs that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillab.evaluation.cost_words import machine
from distillab.evaluation.statistics import mean_interval
from distillab.reporting.front import non_dominated
from distillab.reporting.groups import Group, mean

ALONE, TEACHER = "student alone", "teacher"
COSTS = ("parameters", "multiply_adds", "latency_ms")
FAMILIES = {"distilled": "distilled students", ALONE: "students alone", TEACHER: "teachers"}


@dataclass(frozen=True)
class Point:
    """One model: `series` is its method, `ALONE` or `TEACHER`; accuracies from 0 to 1.

    `machine` is where it was timed; `low` and `high` bound the 95 % interval of the mean over seeds; `baseline` is the mean of the same student alone.
    """

    series: str
    name: str
    note: str
    costs: Mapping[str, float | None]
    machine: str
    top1: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None

    @property
    def family(self) -> str:
        """Whose front it may lie on: a key of `FAMILIES`."""
        return self.series if self.series in FAMILIES else "distilled"


def points(groups: list[Group]) -> list[Point]:
    """The models of one data set and protocol."""
    found = []
    for group in groups:
        row, costs = group.row, {key: group.mean("student", key) for key in COSTS}
        note = ", ".join((f"seeds {', '.join(map(str, row.seeds))}", *row.apart.values()))
        series = ALONE if row.alone else row.method
        alone = None if row.alone else group.mean("baseline", "top1")
        found.append(Point(series, row.student, note, costs, group.measured_on, row.mean, row.low, row.high, alone))
    return found + _shared(groups)


def _shared(groups: list[Group]) -> list[Point]:
    """Teachers and baselines: many groups share one, and it is one point. A baseline that has runs of its own is left out."""
    own = {(row.student, row.train, row.epochs, row.labelled) for row in (group.row for group in groups) if row.alone}
    shared: dict[tuple[Any, ...], list[tuple[Any, dict[str, Any]]]] = {}
    for row, result in ((group.row, result) for group in groups for result in group.row.results):
        if teacher := result.get("teacher"):
            key = (TEACHER, teacher["name"], teacher["parameters"], teacher["top1"])
            shared.setdefault(key, []).append((None, teacher))
        if baseline := result.get("baseline"):
            lesson = (baseline["name"], row.train, baseline.get("epochs", row.epochs), row.labelled)
            # Two methods on one seed share one trained baseline, which must not count twice.
            training = baseline.get("checkpoints") or (result["seeds"].get("seed"), baseline["top1"])
            if lesson not in own:
                shared.setdefault((ALONE, *lesson), []).append((training, baseline))
    found = []
    for (series, name, *_), made in shared.items():
        entries = [entry for _, entry in made]
        top1, _, low, high = mean_interval(list({training: entry["top1"] for training, entry in made}.values()))
        costs = {key: mean(entries, key) for key in COSTS}
        found.append(Point(series, name, "", costs, machine(entries[0]), top1, low, high))
    return found


def front(points: list[Point], family: str, cost: str) -> list[tuple[float, float]]:
    """Cost and accuracy of a family's points that none of it beats, the cheapest first.

    Empty for latencies of several machines, which do not compare.
    """
    members = [point for point in points if point.family == family and point.costs.get(cost)]
    if cost == "latency_ms" and len({point.machine for point in members}) > 1:
        return []
    known = [(point.costs[cost], point.top1) for point in members]
    return sorted({point for point, on in zip(known, non_dominated(known), strict=True) if on})
