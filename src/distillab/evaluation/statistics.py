"""How far a difference between accuracies can be trusted: over seeds, and for one seed over test samples."""

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.core.result_parts import Paired

LEVEL = 0.95
# Accuracies are shares of one: what differs by less than this differs by rounding only.
NO_SPREAD = 1e-9


class Interval(NamedTuple):
    """A mean with its spread, as far as the values give one."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None


class PairedTest(NamedTuple):
    """An `Interval` of paired differences, and the two-sided p of no difference; None where it cannot be computed."""

    mean: float
    deviation: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean, sample standard deviation and Student's t interval of the mean; one value alone has a mean only."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, None, None, None)
    deviation = float(np.std(values, ddof=1))
    half = float(special.stdtrit(count - 1, (1 + level) / 2)) * deviation / sqrt(count)
    return Interval(mean, deviation, mean - half, mean + half)


def paired_test(differences: Sequence[float]) -> PairedTest:
    """Paired t-test of no difference, from the differences on the same seeds.

    Seeds that all give the same difference have no spread to test against (accuracies are counts of test samples, so
    that happens by chance): the interval is then None, and so is p, unless the difference is zero (p = 1). The interval
    leaves out zero exactly where p is below 1 - `LEVEL`.
    """
    mean, deviation, low, high = mean_interval(differences)
    if deviation is None:
        return PairedTest(mean, None)
    if deviation < NO_SPREAD:
        return PairedTest(mean, 0.0, p=1.0 if abs(mean) < NO_SPREAD else None)
    statistic = mean / (deviation / sqrt(len(differences)))
    p = 2 * float(special.stdtr(len(differences) - 1, -abs(statistic)))
    return PairedTest(mean, deviation, low, high, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (1979): each below 0.05 is shown with a family-wise error of at most 5 %.

    None is a test that could not be made, stays None and is not counted.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    stepped = (min(1.0, (len(order) - step) * p) for step, (p, _) in enumerate(order))
    adjusted = dict(zip((place for _, place in order), accumulate(stepped, max), strict=True))
    return [adjusted.get(place) for place in range(len(p_values))]


def smallest_gain(deviation: float | None, count: int, level: float = LEVEL, power: float = 0.8) -> float | None:
    """The smallest true gain that the paired t-test would have shown with that power, by the noncentral t.

    `deviation` is the sample standard deviation of the paired differences, `level` of the two-sided test: 1 - 0.05 / m for
    the strictest of Holm's steps over m tests. None below two pairs or without a spread.
    """
    if deviation is None or count < 2 or deviation < NO_SPREAD:
        return None
    critical = special.stdtrit(count - 1, (1 + level) / 2)
    return float(special.nctdtrinc(count - 1, 1 - power, critical)) * deviation / sqrt(count)


def paired_samples(student_correct: Sequence[bool], baseline_correct: Sequence[bool]) -> Paired:
    """Two trained models on the same test samples: McNemar's exact test (1947), Tango's score interval (1998).

    It says whether these two models differ on samples like the tested ones; about the methods that made them it says
    nothing, since other seeds would have made other models. `low` and `high` are the 95 % interval of the difference of
    the accuracies, in shares of one; the arguments, (n,), say which answers are right.

    Raises ValueError for no samples, or not the same number of them.
    """
    from scipy.stats import binomtest  # a second to import, and tables over seeds can do without

    student, baseline = np.asarray(student_correct, dtype=bool), np.asarray(baseline_correct, dtype=bool)
    if student.shape != baseline.shape or student.ndim != 1 or not len(student):
        raise ValueError(f"expected two rows of as many test samples, got {student.shape} and {baseline.shape}")
    more, less = int((student & ~baseline).sum()), int((baseline & ~student).sum())
    p = float(binomtest(more, more + less).pvalue) if more + less else 1.0
    low, high = _score_interval(more, less, len(student))
    words = _words((more - less) / len(student), low, high, p)
    return Paired(only_student_right=more, only_baseline_right=less, p=p, low=low, high=high, words=words)


def _score_interval(more: int, less: int, count: int) -> tuple[float, float]:
    """The differences that a score test over paired samples does not reject (Tango, Statistics in Medicine 17)."""
    from scipy.optimize import brentq

    found, squared = (more - less) / count, float(special.ndtri((1 + LEVEL) / 2)) ** 2

    def excess(difference: float) -> float:
        # `rarer`: the likeliest probability that only the other is right, if the true difference is this one.
        linear = -more - less + (2 * count - more + less) * difference
        root = linear**2 + 8 * count * less * difference * (1 - difference)
        rarer = (sqrt(max(root, 0.0)) - linear) / (4 * count)
        return (more - less - count * difference) ** 2 - squared * count * (2 * rarer + difference * (1 - difference))

    # Begun beside the difference found: where the two are never told apart the variance is zero at it.
    low, high = (
        end if abs(end - found) < NO_SPREAD else brentq(excess, found + NO_SPREAD * end, end) for end in (-1, 1)
    )
    return float(low), float(high)


def _words(gain: float, low: float, high: float, p: float) -> str:
    bounds = f"{100 * low:z.1f} to {100 * high:z.1f}"
    interval = f"{100 * gain:+z.1f} points (95 % interval {bounds})".replace("-", "−")
    models, seed = "these two trained models on the test samples", "one seed says nothing of the methods"
    if p < 1 - LEVEL:
        return f"{interval} between {models}, shown; {seed}"
    return f"no difference shown between {models}: {interval}; {seed}"
