"""What the charts are drawn from: models, curves and spans of time, as small objects that know nothing of results."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A mean score `y` of the model `label` at a cost or a number of epochs `x`, with its 95 % interval.

    `series` is its method, or a name of `looks`; `machine` is where `x` was timed, empty for what is the same everywhere.
    """

    series: str
    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    machine: str = ""


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
