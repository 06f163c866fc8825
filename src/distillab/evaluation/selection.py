"""The method that is best on validation, and what its test figure shows, corrected for the choice."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.deviations import Error, moderated
from distillab.evaluation.statistics import LEVEL, last

NODES = 40


class Figures(NamedTuple):
    """The figures of a method, or of the student alone, over its runs (S,) on test and on validation; larger is better."""

    test: np.ndarray
    validation: np.ndarray


class Bounds(NamedTuple):
    """A mean over runs with its 95 % interval, corrected for the choice; None of a single run."""

    value: float
    low: float | None
    high: float | None


class Choice(NamedTuple):
    """The best on validation: its place among the candidates, None for the student alone, and its test figure over other runs."""

    place: int | None
    score: Bounds


def chosen(candidates: Sequence[Figures], alone: Figures | None = None) -> Choice:
    """The best of the candidates, and of the student alone, by the mean over runs on validation; all are of one student.

    A run that is lucky on validation is so on test in part: the test figure of the chosen one is too high by that part of
    the largest of as many errors. The lower end allows for it, by the correlation of both figures over runs; the upper end
    needs no correction. Both ends together are missed with a chance of at most 5 %, wherever the true figures lie.
    """
    known = [Figures(*(np.asarray(each, float) for each in one)) for one in (*candidates, *filter(None, [alone]))]
    means = [float(one.validation.mean()) for one in known]
    # Of equals the student alone is the first: nothing was gained.
    best = len(candidates) if alone is not None and means[-1] >= max(means) else int(np.argmax(means))
    tests = [one.test for one in known]
    score = _bounds(tests[best], moderated(tests)[best], len(tests), _correlation(known))
    return Choice(best if best < len(candidates) else None, score)


def _correlation(known: Sequence[Figures]) -> float:
    """Of both figures over the runs of one method, pooled, with one standard error on top; from 0 to 1."""
    one, other = (np.concatenate([runs - runs.mean() for runs in each]) for each in zip(*known, strict=True))
    freedom = len(one) - len(known)
    if freedom < 2:
        return 1.0
    spread = float(np.sqrt((one**2).sum() * (other**2).sum()))
    found = float((one * other).sum()) / spread if spread else 0.0
    return float(np.clip(np.tanh(np.arctanh(np.clip(found, -0.999, 0.999)) + 1 / np.sqrt(freedom)), 0, 1))


def _bounds(runs: np.ndarray, error: Error | None, count: int, share: float) -> Bounds:
    value = float(runs.mean())
    if error is None:
        return Bounds(value, None, None)
    deviations = np.sqrt(error.variances)
    tail = _tail(count, share)
    most = 100 * float(error.weights @ deviations)
    low = last(lambda half: float(error.weights @ _above(half / deviations, count, share)) >= tail, 0.0, most)
    return Bounds(value, value - low, value + error.half(2 * tail))


def _above(ends: np.ndarray, count: int, share: float) -> np.ndarray:
    """The chance that the chosen one's error is above each end (E,), in deviations, if `count` methods are as good."""
    largest = special.ndtri(((np.arange(NODES) + 0.5) / NODES) ** (1 / count))
    rest = np.sqrt(max(1 - share**2, 1e-6))
    return special.ndtr((share * largest - np.asarray(ends)[..., None]) / rest).mean(-1)


def _tail(count: int, share: float) -> float:
    """The chance to leave at each end, so that both together are 5 % at most however many of the methods are as good.

    Where many are, the upper end is hardly ever missed; where one is, the lower end is not: that lets the chance be larger
    than half.
    """
    tails, ends = np.linspace((1 - LEVEL) / 2, 1 - LEVEL, 26), np.linspace(-6, 8, 1401)
    low = np.interp(tails, _above(ends, count, share)[::-1], ends[::-1])
    rivals = np.unique(np.geomspace(1, count, 8).astype(int))
    missed = [_above(low, one, share) + 1 - _above(special.ndtri(tails), one, share) for one in rivals]
    return float(tails[np.max(missed, 0) <= 1 - LEVEL + 1e-3].max())
