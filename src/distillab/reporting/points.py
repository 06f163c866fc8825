"""The rows of one table as the points of a chart, and the teachers among them."""

from collections.abc import Sequence
from statistics import fmean

from distillab.evaluation.payback import machine
from distillab.reporting.drawn import Point
from distillab.reporting.looks import TEACHER
from distillab.reporting.rows import Row


def points(rows: Sequence[Row], cost: str) -> list[Point]:
    """The means over runs at a cost of `PLOTTED`, or over `epochs`; what does not know the cost is left out."""
    timed, found = cost == "latency_ms", []
    for row in rows:
        if x := row.epochs if cost == "epochs" else row.figure(cost):
            note = f"seeds {', '.join(map(str, row.seeds))}" + (f", {row.changed}" if row.changed else "")
            note += f", {row.epochs} epochs" if row.kind == "longer" else ""
            low, high = row.interval.low, row.interval.high
            place = row.measured_on if timed else ""
            found.append(Point(row.series, row.student, x, row.mean, low, high, note, place))
    return found + (_teachers(rows, cost) if cost != "epochs" else [])


def _teachers(rows: Sequence[Row], cost: str) -> list[Point]:
    """Many runs share a teacher: it is one point for each score that it had."""
    known: dict[tuple[str, float], list[Point]] = {}
    for result in (result for row in rows for result in row.results if result.teacher):
        teacher, score = result.teacher, result.score("teacher")
        place = machine(teacher.efficiency) if cost == "latency_ms" else ""
        if x := teacher.figure(cost):
            known.setdefault((teacher.name, score), []).append(Point(TEACHER, teacher.name, x, score, machine=place))
    return [Point(TEACHER, name, fmean(one.x for one in same), score, machine=same[0].machine)
            for (name, score), same in known.items()]  # fmt: skip


def methods(rows: Sequence[Row]) -> list[str]:
    """The methods with a teacher, whose order fixes their looks."""
    return sorted({row.method for row in rows if row.kind == "distilled"})
