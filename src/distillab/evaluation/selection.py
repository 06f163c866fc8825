"""The method that is best on validation, and what its test figure shows, corrected for the choice."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.deviations import Contrast, Error, errors, moderated
from distillab.evaluation.statistics import LEVEL, last

NODES = 40


class Candidate(NamedTuple):
    """A method that may be chosen: its runs on test beside those of the student alone, and on validation (S,)."""

    contrast: Contrast
    validation: np.ndarray


class Bounds(NamedTuple):
    """A mean over runs with its 95 % interval, corrected for the choice; None of a single run."""

    value: float
    low: float | None
    high: float | None


class Choice(NamedTuple):
    """The best on validation.

    `place` is that among the candidates, None where the student alone is the best; `score` its test figure, `gain` what it
    has over the student alone, both over other runs; `candidates` how many it was chosen from, the student alone too.
    """

    place: int | None
    score: Bounds
    gain: Bounds | None
    candidates: int


def chosen(candidates: Sequence[Candidate], alone: np.ndarray | None = None) -> Choice:
    """The best of the candidates, of one student each, by the mean over runs on validation; `alone` is that of the student alone.

    A run that is lucky on validation is so on test in part: the test figure of the chosen one is too high by that part of
    the largest of as many errors. The lower end allows for it, by the correlation of both figures over runs; the upper end
    needs no correction. Both ends together are missed with a chance of at most 5 %, wherever the true figures lie. A student alone
    that ranks first has no gain, and is not counted as one that was missed.
    """
    means = [float(np.mean(one.validation)) for one in candidates]
    place = int(np.argmax(means))
    first = alone is not None and float(np.mean(alone)) >= means[place]
    tests = [np.asarray(one.contrast.own, float) for one in candidates]
    validations = [np.asarray(one.validation, float) for one in candidates]
    if alone is not None:
        tests.append(np.asarray(candidates[place].contrast.reference, float))
        validations.append(np.asarray(alone, float))
    share = _correlation(tests, validations)
    score = _bounds(tests[-1 if first else place], moderated(tests)[-1 if first else place], len(tests), share)
    if first:
        return Choice(None, score, None, len(tests))
    contrast = candidates[place].contrast
    error = errors([one.contrast for one in candidates])[place]
    gained = np.asarray(contrast.own, float) - contrast.reference
    return Choice(place, score, _bounds(gained, error, len(tests), share / 2**0.5), len(tests))


def _correlation(tests: Sequence[np.ndarray], validations: Sequence[np.ndarray]) -> float:
    """Of both figures over the runs of one method, pooled, with one standard error on top; from 0 to 1."""
    one, other = (np.concatenate([runs - runs.mean() for runs in each]) for each in (tests, validations))
    freedom = len(one) - len(tests)
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
