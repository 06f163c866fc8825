"""What the gains of a family of methods show: one correction, shared deviations, test samples as a source of variance."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.gains import Chances, chances
from distillab.evaluation.statistics import LEVEL, NO_SPREAD, last, score_test

# The posterior of a standard deviation lies on a grid of its logarithm, about the mean deviation of its group.
STEPS = np.arange(-5.0, 8.0, 0.1)
# Degrees of freedom by which methods of one group share a deviation, and their weights beforehand.
SHARED = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 1000.0)
LIKELY = np.array([4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 3.0])
APART = 0.035  # chance that a method shares as little as the least, whatever the others do
NODES, ROOTS = np.polynomial.hermite_e.hermegauss(40)


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


class Finding(NamedTuple):
    """What a contrast shows.

    Attributes (what so few runs do not give is None):
        gain: mean of own - reference; runs: how many; deviation: sample standard deviation of the differences.
        low, high: simultaneous 95 % interval over the family. It leaves out zero exactly where p is below .05.
        p: two-sided, adjusted for the family; size: how many tests the family has.
        speaks_of: `("runs",)`, `("runs", "samples")` or, of one run, `("samples",)`: the interval is of other runs, other
            test samples, or both. () where nothing is tested.
        chance_better, chance_above, chance_within: the probability that the true gain is above zero, above the margin,
            and within the margin of zero, by `gains.chances`.
    """

    gain: float
    runs: int
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    size: int = 0
    speaks_of: tuple[str, ...] = ()
    chance_better: float | None = None
    chance_above: float | None = None
    chance_within: float | None = None

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, with a chance of at most 5 % to show any wrongly in the family."""
        return self.p is not None and self.p < 1 - LEVEL


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


def family(contrasts: Sequence[Contrast], margin: float = 0.01) -> list[Finding]:
    """The findings of all contrasts that a reader sees together, corrected for each other.

    Methods share a deviation as far as their runs agree on it: the posterior of each has a prior that the others' runs make
    (inverse chi-square as in Smyth 2004, over whose degrees of freedom it is averaged), and p is the tail of the gain averaged
    over it. The correction is that of the largest of correlated normal variables (Dunnett 1955). In simulations with 3
    seeds a family shows anything wrongly in at most 5 % of the cases, also where deviations differ by a factor of four; not
    where the reference alone is that much noisier than all methods: three runs cannot tell.
    """
    found = errors(contrasts)
    tested = [error is not None or _on_samples_alone(one) for one, error in zip(contrasts, found, strict=True)]
    common = [_common([found[place] for place in places if tested[place]]) for places in _groups(contrasts).values()]
    alpha = last(lambda p: adjusted(p, common) <= 1 - LEVEL, 0.0, 1.0)  # at which each is tested alone
    known = _chances(contrasts, found, margin)
    return [_finding(*each, common, alpha) for each in zip(contrasts, found, known, strict=True)]


def adjusted(p: float, common: Sequence[np.ndarray]) -> float:
    """The chance that one of all tests has a p as small, where nothing differs; their shares `common` (M,) are by group."""
    end = -special.ndtri(max(p, 1e-300) / 2)
    none = 1.0
    for shares in common:
        shift, rest = np.sqrt(shares)[:, None] * NODES, np.sqrt(1 - shares)[:, None]
        inside = special.ndtr((end - shift) / rest) - special.ndtr((-end - shift) / rest)
        none *= float(inside.prod(0) @ ROOTS) / ROOTS.sum()
    return 1 - none


def _common(known: Sequence[Error | None]) -> np.ndarray:
    """The share of each gain's variance that is the reference's, taken as half of the smallest variance of the group."""
    middle = [error.middle for error in known if error is not None]
    return np.array([0.0 if error is None else min(middle) / 2 / error.middle for error in known])


def _on_samples_alone(contrast: Contrast) -> bool:
    return len(contrast.own) == 1 and contrast.samples is not None


def _finding(
    contrast: Contrast, error: Error | None, chance: Chances | None, common: Sequence[np.ndarray], alpha: float
) -> Finding:
    differences = np.asarray(contrast.own, float) - contrast.reference
    gain, runs = float(differences.mean()), len(differences)
    found = Finding(gain, runs, float(differences.std(ddof=1)) if runs > 1 else None, size=sum(map(len, common)))
    if _on_samples_alone(contrast):
        _, low, high, p = score_test(contrast.samples[0], 1 - alpha)
        return found._replace(low=low, high=high, p=adjusted(p, common), speaks_of=("samples",))
    if error is None:
        return found
    half = error.half(alpha)
    return found._replace(
        low=gain - half,
        high=gain + half,
        p=adjusted(error.p(gain), common),
        speaks_of=("runs",) if contrast.samples is None else ("runs", "samples"),
        **chance._asdict(),
    )


def _chances(contrasts: Sequence[Contrast], known: Sequence[Error | None], margin: float) -> list[Chances | None]:
    found: list[Chances | None] = [None] * len(contrasts)
    for places in _groups(contrasts).values():
        places = [place for place in places if known[place] is not None]
        if places:
            gains = [float(np.mean(contrasts[place].own) - np.mean(contrasts[place].reference)) for place in places]
            for place, chance in zip(places, chances(gains, [known[place] for place in places], margin), strict=True):
                found[place] = chance
    return found


def _groups(contrasts: Sequence[Contrast]) -> dict[Hashable, list[int]]:
    groups = defaultdict(list)
    for place, contrast in enumerate(contrasts):
        groups[contrast.group].append(place)
    return groups


def errors(contrasts: Sequence[Contrast]) -> list[Error | None]:
    """The error of each gain; None of a single run, and of runs without any spread."""
    found: list[Error | None] = [None] * len(contrasts)
    for places in _groups(contrasts).values():
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
        seeds = range(len(one.own)) if one.seeds is None else one.seeds
        cells = {
            columns.setdefault(seed, len(columns)): value for seed, value in zip(seeds, one.reference, strict=True)
        }
        for known in references:
            if all(known.get(column, value) == value for column, value in cells.items()):
                known.update(cells)
                break
        else:
            references.append(cells)
    table = np.full((len(members) + len(references), len(columns)), np.nan)
    for row, one in enumerate(members):
        seeds = range(len(one.own)) if one.seeds is None else one.seeds
        table[row, [columns[seed] for seed in seeds]] = one.own
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
