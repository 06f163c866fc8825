"""What the charts are drawn from: points, curves and spans of time, and the rows of a table as points."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from distillab.evaluation.payback import machine
from distillab.reporting.looks import ALONE, TEACHER
from distillab.reporting.metric_table import counted
from distillab.reporting.rows import Row

BUSY = "timed on a busy machine"


@dataclass(frozen=True)
class Point:
    """A mean score `y` of the model `label` at a cost or a number of epochs `x`, with its 95 % interval.

    `series` is its method, or a name of `looks`; `machine` is where `x` was timed, empty for what is the same everywhere;
    a `busy` one gives no time to compare.
    """

    series: str
    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    machine: str = ""
    busy: bool = False


@dataclass(frozen=True)
class Curve:
    """The values of one run over its epochs."""

    series: str
    run: str
    epochs: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Span:
    """The seconds that the run `label` spent on one part of its training."""

    label: str
    part: str
    seconds: float


def points(rows: Sequence[Row], cost: str) -> list[Point]:
    """The means over runs at a cost of `PLOTTED`, or over `epochs`; what does not know the cost is left out."""
    timed, found = cost == "latency_ms", []
    for row in rows:
        if x := row.epochs if cost == "epochs" else row.figure(cost):
            note = f"seeds {', '.join(map(str, row.seeds))}" + (f", {row.changed}" if row.changed else "")
            note += f", {counted(row.epochs, 'epoch')}" if row.kind == "longer" else ""
            busy = timed and row.busy
            note += f", {BUSY}" if busy else ""
            place = row.measured_on if timed else ""
            found.append(Point(row.series, row.student, x, row.mean, *_ends(row), note, place, busy))
    return found + (teachers(rows, cost) if cost != "epochs" else [])


def _ends(row: Row) -> tuple[float | None, float | None]:
    """Of the interval of its mean; a share lies between none and all."""
    low, high = row.interval.low, row.interval.high
    if low is None or high is None or row.metric.scale != 100:
        return low, high
    return max(low, 0.0), min(high, 1.0)


def teachers(rows: Sequence[Row], cost: str = "parameters") -> list[Point]:
    """Many runs share a teacher: it is one point for each score that it had."""
    known: dict[tuple[str, float], list[Point]] = {}
    for result in (result for row in rows for result in row.results if result.teacher):
        teacher, score = result.teacher, result.score("teacher")
        place = machine(teacher.efficiency) if cost == "latency_ms" else ""
        if x := teacher.figure(cost):
            known.setdefault((teacher.name, score), []).append(Point(TEACHER, teacher.name, x, score, machine=place))
    return [Point(TEACHER, name, fmean(one.x for one in same), score, machine=same[0].machine)
            for (name, score), same in known.items()]  # fmt: skip


def by_student(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each student on the same data, of all budgets, by what they have in common."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        title = ", ".join(
            filter(None, (row.student, row.place.data, f"protocol {row.place.protocol}", row.place.labels))
        )
        groups.setdefault(title, []).append(row)
    return groups


def methods(rows: Sequence[Row]) -> list[str]:
    """The methods with a teacher, then students alone of other settings; their order fixes their looks."""
    taught, alone = ({row.series for row in rows if row.kind == kind} for kind in ("distilled", "alone"))
    return [*sorted(taught), *sorted(alone - {ALONE})]


def unbeaten(points: Iterable[tuple[float, float]], sign: int = 1) -> list[tuple[float, float]]:
    """Cost and score of those that no other one beats in both, the cheapest first; of `sign` -1 a lower score is better."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda one: (one[0], -sign * one[1])):
        if not found or sign * y > sign * found[-1][1]:
            found.append((x, y))
    return found
