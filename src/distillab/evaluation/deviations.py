"""How far the gains of methods may be from the true ones: deviations over runs, and over test samples."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.contrast import Contrast, by_group, mean_squares, rows_of
from distillab.evaluation.statistics import NO_SPREAD, last

# The posterior of a standard deviation lies on a grid of its logarithm, about the mean deviation of its group.
STEPS = np.arange(-5.0, 8.0, 0.1)
# Where two deviations are told apart: few runs leave them wide tails, many need a fine grid.
FEW = 5
GRIDS = {"one": STEPS, "few": STEPS[::3], "many": STEPS[10:110]}
# Degrees of freedom by which methods of one group share a deviation, and their weights beforehand.
SHARED = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 1000.0)
LIKELY = np.array([4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 3.0])
APART = 0.02  # chance that a method shares as little as the least, whatever the others do
# Beforehand the reference has the deviation of the methods with this chance, else one whose logarithm is normal above it:
# its few runs alone tell, and all gains have its error.
ALIKE, ABOVE, WIDTH = 0.5, 1.5, 1.0


class Error(NamedTuple):
    """How far a gain may be from the true one: normal, with one of these variances (..., R), whose weights add up to one.

    `shared` (R,) is the part of each variance that all gains of a group have from their reference; None where they have none.
    """

    variances: np.ndarray
    weights: np.ndarray
    shared: np.ndarray | None = None

    def trimmed(self) -> "Error":
        """In one row, without what has next to no weight; what is shared is left out."""
        kept = self.weights > self.weights.max() * 1e-9
        return Error(self.variances[kept], self.weights[kept] / self.weights[kept].sum())

    @property
    def middle(self) -> float:
        """The geometric mean of the variances."""
        return float(np.exp((self.weights * np.log(self.variances)).sum()))

    def p(self, gain: float) -> float:
        """The two-sided p of no gain."""
        return float(2 * (self.weights * special.ndtr(-abs(gain) / np.sqrt(self.variances))).sum())

    def half(self, alpha: float) -> float:
        """Half of the interval at confidence 1 - alpha."""
        known = self.trimmed()
        most = float(np.sqrt(known.variances.max())) * 40
        return last(lambda half: known.p(half) >= alpha, 0.0, most)


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
    """Of several runs each. The deviation of each method is joined with that of its reference."""
    if not members:
        return []
    table, places = rows_of(members)
    squares, freedom = mean_squares(table)
    rows = sorted({row for one, (both, _) in zip(members, places, strict=True) for row in both[: 2 if one.pair else 1]})
    scale = float(squares[rows] @ freedom[rows] / freedom[rows].sum())
    if scale < NO_SPREAD**2:
        return [None] * len(members)
    most = max(len(one.own) for one in members)
    grid = "few" if most <= FEW else "many"
    steps = np.exp(2 * GRIDS[grid])
    found: list[Error | None] = []
    for one, (both, columns) in zip(members, places, strict=True):
        others = np.delete(table, both, axis=0)
        told = _likelihood(*mean_squares(others, scale), grid)
        group = _group(np.log(np.maximum(told @ _kernels(grid).transpose(0, 2, 1), 1e-300)).sum(1))
        beside = others[:, columns]
        weights = _of_two(one, beside[~np.isnan(beside).any(1)], group, scale, grid)
        shared = scale * steps / most if one.pair is None else None
        found.append(_with_samples(one, Error(scale * (steps[:, None] + steps) / len(one.own), weights, shared)))
    return found


def _group(told: np.ndarray) -> np.ndarray:
    """The weights (D, G) of the group's deviation, from the log-likelihoods that its rows give."""
    logs = told + np.log(LIKELY)[:, None]
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def _of_two(one: Contrast, others: np.ndarray, group: np.ndarray, scale: float, grid: str) -> np.ndarray:
    """The weights (G, G) of the deviations of a method and of its reference.

    The mean of the `others` (N, S), the rows that have all its runs, tells the two apart: by what the method and that mean
    both differ from the reference, the reference deviates. `group` are the weights of what those say of a deviation.
    """
    kernels, steps = _kernels(grid), np.exp(2 * GRIDS[grid])
    likely = group.sum(0)
    kept = likely > likely.max() * 1e-6
    group, kernels, spread = group[:, kept], kernels[:, kept], steps[kept]
    prior = (1 - APART) * np.einsum("dg,dga->ga", group, kernels) + APART * group.sum(0)[:, None] * kernels[0]
    reference = _of_reference(grid)[kept] if one.pair is None else prior / prior.sum(1, keepdims=True)
    own = np.asarray(one.own, float) - one.reference
    freedom, own = len(own) - 1, (own - own.mean()) / np.sqrt(scale)
    a, r = steps[:, None], steps
    if not len(others):
        logs = -freedom * np.log(a + r) / 2 - own @ own / (a + r) / 2
        found = np.exp(logs - logs.max()) * (prior.T @ reference)
    else:
        mean = others.mean(0) - one.reference
        mean = (mean - mean.mean()) / np.sqrt(scale)
        t = spread[:, None, None] / len(others)
        area = a * r + (a + r) * t
        apart = (own @ own * (r + t) - 2 * (own @ mean) * r + mean @ mean * (a + r)) / area
        logs = -freedom * np.log(area) / 2 - apart / 2
        found = (np.exp(logs - logs.max()) * prior[:, :, None] * reference[:, None, :]).sum(0)
    return found / found.sum()


@cache
def _kernels(grid: str = "one") -> np.ndarray:
    """The density (D, G, G) of log sigma given the log of the group's, by the degrees of freedom that they share."""
    steps = GRIDS[grid]
    apart = 2 * (steps[None, :] - steps[:, None])
    logs = np.stack([-shared / 2 * (apart + np.exp(-np.clip(apart, -30, None)) - 1) for shared in SHARED])
    made = np.exp(logs)
    return made / made.sum(2, keepdims=True)


@cache
def _of_reference(grid: str) -> np.ndarray:
    """The density (G, G) of the log of the reference's sigma given that of the methods' group."""
    steps = GRIDS[grid]
    above = np.exp(-((steps[None, :] - steps[:, None] - ABOVE) ** 2) / (2 * WIDTH**2))
    return ALIKE * np.eye(len(steps)) + (1 - ALIKE) * above / above.sum(1, keepdims=True)


def _likelihood(squares: np.ndarray, freedom: np.ndarray, grid: str = "one") -> np.ndarray:
    """That of each deviation of the grid (M, G) for mean squares (M,)."""
    steps = GRIDS[grid]
    logs = -freedom[:, None] * (steps + squares[:, None] * np.exp(-2 * steps) / 2)
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


def _with_samples(contrast: Contrast, error: Error) -> Error:
    """The error over other test samples too (a crossed two-way layout), where the differences on each were kept."""
    if contrast.samples is None:
        return error
    table = np.asarray(contrast.samples, float)
    runs, count = table.shape
    by_sample = table.mean(0)
    left = table - by_sample - table.mean(1, keepdims=True) + table.mean()
    noise = float((left**2).sum() / ((runs - 1) * (count - 1)))  # of one run on one sample
    interaction = max(0.0, runs * float(by_sample.var(ddof=1)) - noise)
    variances = np.maximum(error.variances, noise / (runs * count)) + interaction / (runs * count)
    return error._replace(variances=variances)
