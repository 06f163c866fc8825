"""What a method's gains show: the tests of one family, corrected together, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distillab.core.result_parts import Paired
from distillab.evaluation.statistics import LEVEL, holm, paired_test, smallest_gain
from distillab.reporting.metric_table import Metric


@dataclass(frozen=True)
class Gain:
    """The differences of the figure `shown` on the same seeds by the paired t-test. What so many seeds do not give is None.

    `p_holm` is by Holm's correction over the `tests` of the family; `smallest` is the gain that so many seeds would have
    shown with a power of 80 %, at the strictest of Holm's steps.
    """

    shown: Metric
    each: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest: float | None
    tests: int

    @property
    def outcome(self) -> str:
        """What the test says; empty where there was none."""
        if self.p_holm is None or self.low is None:
            return "no difference shown" if self.p == 1 else ""
        if self.p_holm >= 1 - LEVEL:
            return "no difference shown"
        return "shown" if self.mean > 0 else "a loss, shown"

    def words(self, among: str) -> str:
        """The result of the test in full; `among` is what the family's members are."""
        size, seeds = self.shown.gain(self.mean), len(self.each)
        ends = self.low, self.high, self.smallest
        low, high, smallest = (self.shown.difference(end, 1).lstrip("+") for end in ends)
        if seeds == 1:
            return f"{size} with one seed, which says nothing of the methods (seed=0,1,2)"
        if self.low is None:
            equal = f"{self.outcome}: none" if self.outcome else size
            return f"{equal} with each of {seeds} seeds, and without a spread nothing can be tested"
        if self.outcome != "no difference shown":
            return f"{size} (95 % interval {low} to {high}), {self.outcome}"
        corrected = f" among {self.tests} {among} ({corrected_p(self.p, self.p_holm)})"
        known = corrected if self.p < 1 - LEVEL else ""
        return f"{self.outcome}{known}; {seeds} seeds could have shown {smallest} {self.shown.gained}"

    @property
    def short(self) -> str:
        """Its size and what the test says, to stand beside another gain's words."""
        return ", ".join(filter(None, (self.shown.gain(self.mean), self.outcome)))


def gains(differences: Sequence[Sequence[float]], shown: Metric) -> list[Gain | None]:
    """One family's gains in the figure `shown`; None where there is no difference to test."""
    tests = [paired_test(each) if each else None for each in differences]
    adjusted = holm([test and test.p for test in tests])
    count = sum(p is not None for p in adjusted)
    level = 1 - (1 - LEVEL) / max(count, 1)  # at which one of so many tests is shown whatever the others say
    found: list[Gain | None] = []
    for each, test, p_holm in zip(differences, tests, adjusted, strict=True):
        least = test and smallest_gain(test.deviation, len(each), level)
        found.append(test and Gain(shown, tuple(each), test.mean, test.low, test.high, test.p, p_holm, least, count))
    return found


def on_samples(tests: Sequence[Paired | None]) -> list[str | None]:
    """What the test samples say of two trained models each, by Holm's correction over all of these pairs."""
    adjusted = holm([test and test.p for test in tests])
    count = sum(p is not None for p in adjusted)

    def corrected(test: Paired, p_holm: float | None) -> str | None:
        if not test.words or p_holm is None or count < 2 or test.p >= 1 - LEVEL:
            return test.words
        if p_holm < 1 - LEVEL:
            return f"{test.words}; p = {p_holm:.2g} by Holm's correction over {count} tests"
        return f"no difference shown among {count} tests ({corrected_p(test.p, p_holm)}); uncorrected: {test.words}"

    return [test and corrected(test, p_holm) for test, p_holm in zip(tests, adjusted, strict=True)]


def corrected_p(p: float, p_holm: float) -> str:
    """Both p in words."""
    return f"p = {p:.2g} alone, {p_holm:.2g} by Holm's correction"
