"""How far a figure or a difference can be trusted: over runs, and for trained files over test samples."""

from collections.abc import Callable, Sequence
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.core.result_parts import Excess, Paired

LEVEL = 0.95
# Accuracies are shares of one: what differs by less than this differs by rounding only.
NO_SPREAD = 1e-9


class Interval(NamedTuple):
    """A mean with its spread, as far as the values give one."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean, sample standard deviation and Student's t interval of the mean; one value alone has a mean only."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, None, None, None)
    deviation = float(np.std(values, ddof=1))
    half = float(special.stdtrit(count - 1, (1 + level) / 2)) * deviation / sqrt(count)
    return Interval(mean, deviation, mean - half, mean + half)


class Difference(NamedTuple):
    """A difference with its interval and the two-sided p of none, from one statistic: they never contradict each other."""

    value: float
    low: float
    high: float
    p: float


def score_test(differences: Sequence[float] | np.ndarray, level: float = LEVEL) -> Difference:
    """Two trained files on the same samples, from the difference (n,) on each; of methods it says nothing.

    Where these are 1, 0 and -1, right answers less right answers, it is `paired_counts`, else `mean_test`. A ratio, such
    as bits per byte over documents, is the mean of `linearised` values. ValueError for no samples.
    """
    values = np.asarray(differences, float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"expected a row of test samples, got {values.shape}")
    if np.isin(values, (-1, 0, 1)).all():
        return paired_counts(int((values > 0).sum()), int((values < 0).sum()), len(values), level)
    return mean_test(values, level)


def mean_test(values: np.ndarray, level: float = LEVEL) -> Difference:
    """The mean of values (n,) with Student's interval and test of zero; one value alone is between infinities."""
    mean, deviation, low, high = mean_interval(values, level)
    if deviation is None:
        return Difference(mean, -inf, inf, 1.0)
    if deviation == 0:
        return Difference(mean, mean, mean, float(mean == 0))
    p = 2 * float(special.stdtr(len(values) - 1, -abs(mean) / (deviation / sqrt(len(values)))))
    return Difference(mean, low, high, p)


def linearised(totals: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Values (n,) whose mean is sum(totals) / sum(sizes), with the spread of this ratio over samples (n,).

    The ratio estimator of survey sampling (Cochran 1977, chapter 6), such as bits per byte over documents. It is linear in
    `totals`: differences of values are values of differences.
    """
    ratio = totals.sum() / sizes.sum()
    return ratio + (totals - ratio * sizes) / sizes.mean()


def paired_counts(more: int, less: int, count: int, level: float = LEVEL) -> Difference:
    """The difference of two shares of the same `count` samples: Tango's score test and the interval that inverts it.

    `more` samples have the property in the first only, `less` in the second only (Statistics in Medicine 17, 1998, p. 891).
    """
    found, squared = (more - less) / count, float(special.ndtri((1 + level) / 2)) ** 2

    def kept(difference: float) -> bool:
        # `rarer`: the likeliest probability of the second only, if the true difference is this one.
        linear = -more - less + (2 * count - more + less) * difference
        root = linear**2 + 8 * count * less * difference * (1 - difference)
        rarer = (sqrt(max(root, 0.0)) - linear) / (4 * count)
        variance = count * (2 * rarer + difference * (1 - difference))
        return (more - less - count * difference) ** 2 <= squared * variance

    p = 2 * float(special.ndtr(-abs(more - less) / sqrt(more + less))) if more + less else 1.0
    return Difference(found, last(kept, found, -1.0), last(kept, found, 1.0), p)


def last(holds: Callable[[float], bool], inside: float, outside: float) -> float:
    """The end of what holds from `inside` on; `outside` where it holds up to there."""
    if abs(outside - inside) < NO_SPREAD:
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return (inside + outside) / 2


def per_cluster(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Sums (D,) of values (n,) by cluster, in the order of the clusters' numbers."""
    numbers, place = np.unique(cluster, return_inverse=True)
    return np.bincount(place, values, len(numbers))


def excess(student: np.ndarray, alone: np.ndarray, cluster: np.ndarray | None = None) -> Excess:
    """How many more of the teacher's errors (n,), True where repeated, a student repeats than the student alone does.

    Both find the same samples hard, so both repeat errors unlearned; what is above the student alone's number was learned.
    The interval is Tango's of the paired shares, or over clusters (n,), such as documents, that of a ratio.
    """
    more, less, count = int((student & ~alone).sum()), int((alone & ~student).sum()), len(student)
    if not count:
        low = high = 0.0
    elif cluster is None:
        _, low, high, _ = paired_counts(more, less, count)
    else:
        apart = per_cluster(student.astype(float) - alone, cluster)
        _, low, high, _ = mean_test(linearised(apart, per_cluster(np.ones(count), cluster)))
    ends = {"low": max(low, -1.0) * count, "high": min(high, 1.0) * count}
    return Excess(errors=count, repeated=int(student.sum()), repeated_alone=int(alone.sum()), **ends)


def paired_samples(student_correct: Sequence[bool], baseline_correct: Sequence[bool]) -> Paired:
    """`paired_counts` of two trained files, from which answers are right, (n,).

    Raises ValueError for no samples, or not the same number of them.
    """
    student, baseline = np.asarray(student_correct, dtype=bool), np.asarray(baseline_correct, dtype=bool)
    if student.shape != baseline.shape or student.ndim != 1 or not len(student):
        raise ValueError(f"expected two rows of as many test samples, got {student.shape} and {baseline.shape}")
    more, less = int((student & ~baseline).sum()), int((baseline & ~student).sum())
    test = paired_counts(more, less, len(student))
    return Paired(**test._asdict(), only_student_right=more, only_baseline_right=less)
