"""How far the gains of methods may be from the true ones: deviations over runs, and over test samples."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.statistics import NO_SPREAD, last

# The posterior of a standard deviation lies on a grid of its logarithm, about the mean deviation of its group.
STEPS = np.arange(-5.0, 8.0, 0.1)
# Degrees of freedom by which methods of one group share a deviation, and their weights beforehand.
SHARED = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 1000.0)
LIKELY = np.array([4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 3.0])
APART = 0.035  # chance that a method shares as little as the least, whatever the others do


class Contrast(NamedTuple):
    """One method of one student against its reference, run by run.

    `own` and `reference` are the scores (S,) of paired runs, larger is better; `samples` (S, I) are the differences on each
    test sample, whose means over a row are own - reference, or None. Methods of one `group` share a reference and, as far
    as their runs say so, a deviation. `seeds` name the runs, so that those of several contrasts are known as the same; by
    default they are the positions.
    """

    own: np.ndarray
    reference: np.ndarray
    samples: np.ndarray | None = None
    group: Hashable = ""
    seeds: tuple[Hashable, ...] | None = None

    @property
    def runs(self) -> Sequence[Hashable]:
        """What names each run."""
        return range(len(self.own)) if self.seeds is None else self.seeds


class Error(NamedTuple):
    """How far a gain may be from the true one: normal, with one of these variances (G,), whose weights add up to one."""

    variances: np.ndarray
    weights: np.ndarray

    def trimmed(self) -> "Error":
        """Without what has next to no weight."""
        kept = self.weights > self.weights.max() * 1e-9
        return Error(self.variances[kept], self.weights[kept] / self.weights[kept].sum())

    @property
    def middle(self) -> float:
        """The geometric mean of the variances."""
        return float(np.exp(self.weights @ np.log(self.variances)))

    def p(self, gain: float) -> float:
        """The two-sided p of no gain."""
        return float(2 * self.weights @ special.ndtr(-abs(gain) / np.sqrt(self.variances)))

    def half(self, alpha: float) -> float:
        """Half of the interval at confidence 1 - alpha."""
        most = float(np.sqrt(self.variances.max())) * 40
        return last(lambda half: self.p(half) >= alpha, 0.0, most)


def by_group(contrasts: Sequence[Contrast]) -> dict[Hashable, list[int]]:
    """The places of each group's contrasts."""
    groups = defaultdict(list)
    for place, contrast in enumerate(contrasts):
        groups[contrast.group].append(place)
    return groups


def errors(contrasts: Sequence[Contrast]) -> list[Error | None]:
    """The error of each gain; None of a single run, and of runs without any spread."""
    found: list[Error | None] = [None] * len(contrasts)
    for places in by_group(contrasts).values():
        places = [place for place in places if len(contrasts[place].own) > 1]
        for place, error in zip(places, _of_group([contrasts[place] for place in places]), strict=True):
            found[place] = error
    return found


def moderated(figures: Sequence[np.ndarray]) -> list[Error | None]:
    """The error of the mean of each method's figures over runs (S,), all of one student; None where there is no spread."""
    freedom = np.array([len(runs) - 1.0 for runs in figures])
    squares = np.array([np.var(runs, ddof=1) if len(runs) > 1 else 0.0 for runs in figures])
    scale = float(np.average(squares, weights=freedom)) if freedom.any() else 0.0
    if scale < NO_SPREAD**2:
        return [None] * len(figures)
    weights = _posterior(squares / scale, squares / scale, freedom)
    return [
        Error(scale * np.exp(2 * STEPS) / len(runs), row).trimmed() if len(runs) > 1 else None
        for runs, row in zip(figures, weights, strict=True)
    ]


def _of_group(members: Sequence[Contrast]) -> list[Error | None]:
    """Of several runs each. What a method's own runs say of its variance is joined with what the others' say of it."""
    if not members:
        return []
    own = np.array([np.var(one.own - one.reference, ddof=1) / 2 for one in members])
    freedom = np.array([len(one.own) - 1.0 for one in members])
    others = _residuals(members)
    scale = float(np.average(own, weights=freedom))
    if scale < NO_SPREAD**2:
        return [None] * len(members)
    weights = _posterior(own / scale, others / scale, freedom)
    variances = 2 * scale * np.exp(2 * STEPS)
    return [_with_samples(one, variances / len(one.own), row) for one, row in zip(members, weights, strict=True)]


def _residuals(members: Sequence[Contrast]) -> np.ndarray:
    """The mean square (M,) of each method's runs about the effects of method and seed.

    The reference is a row too, so that what it shares with all of them is nobody's evidence.
    """
    columns: dict[Hashable, int] = {}
    references: list[dict[int, float]] = []
    for one in members:
        places = (columns.setdefault(seed, len(columns)) for seed in one.runs)
        cells = dict(zip(places, one.reference, strict=True))
        for known in references:
            if all(known.get(column, value) == value for column, value in cells.items()):
                known.update(cells)
                break
        else:
            references.append(cells)
    table = np.full((len(members) + len(references), len(columns)), np.nan)
    for row, one in enumerate(members):
        table[row, [columns[seed] for seed in one.runs]] = one.own
    for row, cells in enumerate(references, len(members)):
        table[row, list(cells)] = list(cells.values())
    there = ~np.isnan(table)
    for _ in range(1 if there.all() else 30):
        table = table - np.nanmean(table, 1, keepdims=True)
        table = table - np.nanmean(table, 0)
    left = np.where(there, 1 - 1 / there.sum(0), 0).sum(1) * (1 - 1 / there.sum(1))
    return (np.nansum(table**2, 1) / left)[: len(members)]


@cache
def _kernels() -> np.ndarray:
    """The density (D, G, G) of log sigma given the log of the group's, by the degrees of freedom that they share."""
    apart = 2 * (STEPS[None, :] - STEPS[:, None])
    logs = np.stack([-shared / 2 * (apart + np.exp(-np.clip(apart, -30, None)) - 1) for shared in SHARED])
    made = np.exp(logs)
    return made / made.sum(2, keepdims=True)


def _likelihood(squares: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """That of each deviation of the grid (M, G) for mean squares (M,)."""
    logs = -freedom[:, None] * (STEPS + squares[:, None] * np.exp(-2 * STEPS) / 2)
    return np.exp(logs - logs.max(1, keepdims=True))


def _posterior(own: np.ndarray, others: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """The weights of the grid's deviations (M, G) for each method."""
    kernels = _kernels()
    told = np.log(np.maximum(_likelihood(others, freedom) @ kernels.transpose(0, 2, 1), 1e-300))  # (D, M, G)
    without = told.sum(1, keepdims=True) - told + np.log(LIKELY)[:, None, None]
    without = np.exp(without - without.max((0, 2), keepdims=True))
    without /= without.sum((0, 2), keepdims=True)
    prior = (1 - APART) * (without @ kernels).sum(0) + APART * without.sum(0) @ kernels[0]
    found = prior * _likelihood(own, freedom)
    return found / found.sum(1, keepdims=True)


def _with_samples(contrast: Contrast, variances: np.ndarray, weights: np.ndarray) -> Error:
    """The error over other test samples too (a crossed two-way layout), where the differences on each were kept."""
    error = Error(variances, weights).trimmed()
    if contrast.samples is None:
        return error
    table = np.asarray(contrast.samples, float)
    runs, count = table.shape
    by_sample = table.mean(0)
    left = table - by_sample - table.mean(1, keepdims=True) + table.mean()
    noise = float((left**2).sum() / ((runs - 1) * (count - 1)))  # of one run on one sample
    interaction = max(0.0, runs * float(by_sample.var(ddof=1)) - noise)
    variances = np.maximum(error.variances, noise / (runs * count)) + interaction / (runs * count)
    return Error(variances, error.weights)
