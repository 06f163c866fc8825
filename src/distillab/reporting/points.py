"""The models of one data set and protocol as the points of a chart: taught, alone, alone for longer, and the teachers."""

from typing import Any

from distillab.core.result_parts import Entry
from distillab.evaluation.payback import machine
from distillab.evaluation.statistics import mean_interval
from distillab.reporting.drawn import Point
from distillab.reporting.looks import ALONE, LONGER, TEACHER
from distillab.reporting.rows import Row, mean

Shared = dict[tuple[Any, ...], dict[Any, tuple[float, Entry]]]


def points(rows: list[Row], cost: str) -> list[Point]:
    """The means over seeds at a cost of `PLOTTED`, or over `epochs`; what does not know the cost is left out."""
    found = []
    for row in rows:
        x = row.epochs if cost == "epochs" else row.figure(cost)
        note = ", ".join((f"seeds {', '.join(map(str, row.seeds))}", *row.apart.values()))
        series = ALONE if row.alone else row.method
        found.append((series, row.student, x, row.mean, row.low, row.high, note, row.measured_on))
    for (series, name, epochs, *_), entries in _shared(rows).items():
        scores, known = zip(*entries.values(), strict=True)
        x = epochs if cost == "epochs" else mean(known, cost)
        at, _, low, high = mean_interval(scores)
        note = f"{len(scores)} runs, {epochs} epochs" if epochs else ""
        found.append((series, name, x, at, low, high, note, machine(known[0].efficiency)))
    return [Point(*one[:7], one[7] if cost == "latency_ms" else "") for one in found if one[2]]


def _shared(rows: list[Row]) -> Shared:
    """What many results show is one point: series, name, epochs, → each training's score. Own rows of a student go before."""
    own = {(row.student, row.epochs) for row in rows if row.alone}
    found: Shared = {}
    for row, result in ((one, result) for one in rows for result in one.results):
        seed, name = result.seeds.get("seed"), result.primary.name

        def add(key: tuple[Any, ...], training: Any, score: float, entry: Entry) -> None:
            found.setdefault(key, {})[training] = score, entry

        if teacher := result.teacher:
            score = result.score("teacher")
            add((TEACHER, teacher.name, None, score), None, score, teacher)
        if baseline := result.baseline:
            epochs, score = baseline.training.epochs or row.epochs, result.score("baseline")
            if (baseline.name, epochs) not in own:
                add((ALONE, baseline.name, epochs), baseline.training.checkpoints or (seed, score), score, baseline)
        if (longer := result.longer) and name in longer.metrics:
            add((LONGER, result.student.name, longer.epochs), seed, longer.metrics[name], result.student)
    return found
