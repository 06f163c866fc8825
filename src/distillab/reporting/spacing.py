"""Where points and names stand in a chart so that none covers another, in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log, log10

from distillab.reporting.points import Point

NARROW, WIDTH, HEIGHT = 300, 560, 360  # a phone, and a picture: for these points and names are laid out
MARK, STEP = 5, 11  # half a marker, and how far two that would cover each other stand apart, in pixels
REACH = 5  # steps to each side
LETTER = 7  # the width of a letter of a name, in pixels, at most


@dataclass(frozen=True)
class Scale:
    """The logarithmic axis of costs, so many pixels wide."""

    low: float
    high: float
    width: int

    def pixels(self, x: float) -> float:
        """How far from the left end a cost stands."""
        return self.width * log(x / self.low) / log(self.high / self.low)

    def steps(self) -> list[float]:
        """Steps of 1, 5 and 2 between the ends."""
        decades = range(floor(log10(self.low)), ceil(log10(self.high)))
        return [x for n in (1, 5, 2) for decade in decades if self.low <= (x := n * 10.0**decade) <= self.high]

    def apart(self, values: Sequence[float], room: float) -> list[float]:
        """Of these values, those that stand so many pixels from the ones before."""
        found: list[float] = []
        for value in values:
            if all(abs(self.pixels(value) - self.pixels(one)) > room for one in found):
                found.append(value)
        return found


def scale_of(points: Sequence[Point], width: int) -> Scale:
    """The axis from the cheapest to the dearest point, with room for what stands beside them."""
    low, high = min(point.x for point in points), max(point.x for point in points)
    room = (high / low) ** (2.5 * STEP / (width - 5 * STEP)) if high > low else 2
    return Scale(low / room, high * room, width)


def spread(points: Sequence[Point], scale: Scale, domain: tuple[float, float]) -> list[int]:
    """The pixels by which each point is drawn beside its cost: as far as another marker or interval would cover it.

    `domain` are the ends of the scores' axis.
    """
    pixel = HEIGHT / (domain[1] - domain[0])
    taken: list[tuple[float, float, float]] = []
    found = []
    for point in points:
        at = scale.pixels(point.x)
        ends = [pixel * (point.y if end is None else end) for end in (point.low, point.high)]
        low, high = min(ends[0], pixel * point.y) - MARK, max(ends[1], pixel * point.y) + MARK

        def hidden(shift: int, at: float = at, low: float = low, high: float = high) -> float:
            near = (one for one in taken if abs(one[0] - at - shift) < STEP - 0.01)
            return sum(max(min(high, top) - max(low, bottom), 0) for _, bottom, top in near)

        places = sorted(range(-REACH, REACH + 1), key=lambda place: (abs(place), -place))
        inside = [STEP * place for place in places if MARK <= at + STEP * place <= scale.width - MARK]
        shift = min(inside, key=lambda shift: round(hidden(shift)))
        taken.append((at + shift, low, high))
        found.append(shift)
    return found


def name_rows(names: Sequence[tuple[str, float]]) -> list[int]:
    """The row above the chart in which each name is written, so that none touches another; `names` by their place."""
    ends: list[float] = []
    found = []
    for name, at in names:
        half = LETTER * (len(name) + 1) / 2
        row = next((row for row, end in enumerate(ends) if end < at - half), len(ends))
        ends[row : row + 1] = [at + half]
        found.append(row)
    return found
