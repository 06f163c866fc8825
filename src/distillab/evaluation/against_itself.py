"""A method against itself: how often the test of a family shows a difference where there is none."""

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.families import Contrast, Finding, family
from distillab.evaluation.statistics import LEVEL

MOST = 1000  # splits; of more that many are drawn
STUDIES = 1000  # simulated, of as many equal runs

Test = Callable[[Sequence[Contrast]], Sequence[Finding]]
Split = tuple[list[int], list[int]]


class Repeats(NamedTuple):
    """The runs of one method: scores (R,), larger is better, and the figure on each test sample (R, I), where kept."""

    scores: np.ndarray
    samples: np.ndarray | None = None
    group: Hashable = ""  # who shares a deviation, the student


class Share(NamedTuple):
    """In how many of so many comparisons a difference is shown; `first` are the findings of the first one, by method."""

    shown: int
    of: int
    first: Sequence[Finding]

    @property
    def value(self) -> float:
        """The share of one."""
        return self.shown / self.of


class Study(NamedTuple):
    """The shares over all splits of the runs: by scores, by test samples too, and of single runs by test samples alone.

    `low` and `high`: a right test of equal runs gives a share between these in 95 of 100 such studies.
    """

    runs: int  # of each side
    scores: Share
    samples: Share | None
    single: Share | None
    low: float
    high: float

    @property
    def tested(self) -> Share:
        """The share of the test that reports apply: over runs and test samples, as far as answers were kept."""
        return self.samples or self.scores


def halves(runs: int, most: int = MOST) -> list[Split]:
    """The ways to split runs into two sides of as many, each once; `most` are drawn with a fixed seed where there are more."""
    side = runs // 2
    if comb(2 * side, side) // 2 <= most:
        firsts = [[0, *rest] for rest in combinations(range(1, 2 * side), side - 1)]
        return [(first, [run for run in range(2 * side) if run not in first]) for first in firsts]
    generator, found = np.random.default_rng(0), {}
    while len(found) < most:
        order = generator.permutation(2 * side).tolist()
        own, other = sorted((sorted(order[:side]), sorted(order[side:])))
        found[tuple(own)] = own, other
    return list(found.values())


def against_itself(methods: Sequence[Repeats], test: Test = family) -> Study:
    """Split the runs of each method into two sides, and test one against the other as a report tests two methods.

    All methods of a split are one family: a difference that is shown for any of them is a false one. An odd run is left out.
    Raises ValueError for fewer than four runs, or not as many of each method.
    """
    counts = {len(one.scores) for one in methods}
    if len(counts) != 1 or min(counts) < 4:
        raise ValueError(f"expected four runs of each method at least, and as many of each, got {sorted(counts)}")
    splits = halves(count := counts.pop())
    kept = all(one.samples is not None for one in methods)
    by_scores = [one._replace(samples=None) for one in methods]
    low, high = _right(count, len(methods))
    return Study(
        len(splits[0][0]),
        _share(by_scores, splits, test),
        _share(methods, splits, test) if kept else None,
        _share(methods, list(_pairs(splits)), test) if kept else None,
        low,
        high,
    )


def _pairs(splits: Sequence[Split]) -> list[Split]:
    """Every run against every other one."""
    return [([one], [other]) for one, other in combinations(range(2 * len(splits[0][0])), 2)]


def _share(methods: Sequence[Repeats], splits: Sequence[Split], test: Test) -> Share:
    found = [test([_contrast(one, split) for one in methods]) for split in splits]
    return Share(sum(any(one.shown for one in findings) for findings in found), len(found), found[0])


def _contrast(one: Repeats, split: Split) -> Contrast:
    own, other = split
    samples = None if one.samples is None else one.samples[own] - one.samples[other]
    return Contrast(one.scores[own], one.scores[other], samples, one.group, pair=((id(one), "own"), (id(one), "other")))


@cache
def _right(runs: int, methods: int) -> tuple[float, float]:
    """The middle 95 % of the shares that the paired t-test (Šidák over the methods) gives on so many equal normal runs.

    The splits of one study share its runs, so that its share varies far more than one of as many independent tests.
    """
    own, other = (np.array(sides) for sides in zip(*halves(runs), strict=True))
    generator, side, shares = np.random.default_rng(0), own.shape[1], []
    for _ in range(STUDIES):
        drawn = generator.normal(size=(methods, runs))
        differences = drawn[:, own] - drawn[:, other]  # (M, splits, side)
        statistic = differences.mean(2) / (differences.std(2, ddof=1) / np.sqrt(side))
        least = 2 * special.stdtr(side - 1, -np.abs(statistic)).min(0)
        shares.append(float((1 - (1 - least) ** methods < 1 - LEVEL).mean()))
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
