"""What the accuracy charts show, on the page and as a picture: one point a model, from all runs that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from distillab.core.result_parts import Entry
from distillab.evaluation.cost_words import machine
from distillab.evaluation.statistics import mean_interval
from distillab.reporting.looks import ALONE, FRONTS, TEACHER
from distillab.reporting.metric_table import PLOTTED
from distillab.reporting.ranking import non_dominated
from distillab.reporting.rows import Row, mean


@dataclass(frozen=True)
class Point:
    """One model: `series` is its method, `ALONE` or `TEACHER`; `score` is its primary figure.

    `machine` is where it was timed; `low` and `high` bound the 95 % interval of the mean over seeds; `baseline` is the
    mean of the same student alone; `sign` is 1 where a higher score is better, else -1.
    """

    series: str
    name: str
    note: str
    costs: Mapping[str, float | None]
    machine: str
    score: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    sign: int = 1

    @property
    def family(self) -> str:
        """Whose front it may lie on: a key of `FRONTS`."""
        return self.series if self.series in FRONTS else "distilled"


def points(rows: list[Row]) -> list[Point]:
    """The models of one data set and protocol."""
    found = []
    for row in rows:
        costs = {key: row.figure(key) for key in PLOTTED}
        note = ", ".join((f"seeds {', '.join(map(str, row.seeds))}", *row.apart.values()))
        series, alone = (ALONE, None) if row.alone else (row.method, row.figure(row.primary.name, "baseline"))
        interval = {"low": row.low, "high": row.high, "baseline": alone, "sign": row.sign}
        found.append(Point(series, row.student, note, costs, row.measured_on, row.mean, **interval))
    return found + _shared(rows)


def _shared(rows: list[Row]) -> list[Point]:
    """Teachers and baselines: many rows share one, and it is one point. A baseline that has runs of its own is left out."""
    own = {row.lesson for row in rows if row.alone}
    shared: dict[tuple[Any, ...], list[tuple[Any, float, Entry]]] = {}
    for row, result in ((one, result) for one in rows for result in one.results):
        if teacher := result.teacher:
            score = result.score("teacher")
            key = (TEACHER, teacher.name, teacher.efficiency.parameters, score)
            shared.setdefault(key, []).append((None, score, teacher))
        if baseline := result.baseline:
            score, epochs = result.score("baseline"), baseline.training.epochs or row.epochs
            lesson = replace(row, student=baseline.name, epochs=epochs).lesson
            # Two methods on one seed share one trained baseline, which must not count twice.
            training = baseline.training.checkpoints or (result.seeds.get("seed"), score)
            if lesson not in own:
                shared.setdefault((ALONE, baseline.name, lesson), []).append((training, score, baseline))
    found = []
    for (series, name, *_), made in shared.items():
        entries = [entry for *_, entry in made]
        score, _, low, high = mean_interval(list({training: score for training, score, _ in made}.values()))
        costs, place = {key: mean(entries, key) for key in PLOTTED}, machine(entries[0].efficiency)
        found.append(Point(series, name, "", costs, place, score, low, high, sign=rows[0].sign))
    return found


def front(points: list[Point], family: str, cost: str) -> list[tuple[float, float]]:
    """Cost and score of a family's points that none of it beats, the cheapest first.

    Empty for latencies of several machines, which do not compare, and where one point is all.
    """
    members = [point for point in points if point.family == family and point.costs.get(cost)]
    if cost == "latency_ms" and len({point.machine for point in members}) > 1:
        return []
    marks = non_dominated([(point.costs[cost], point.sign * point.score) for point in members])
    steps = sorted({(point.costs[cost], point.score) for point, on in zip(members, marks, strict=True) if on})
    return steps if len(steps) > 1 else []
