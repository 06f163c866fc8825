"""How likely a true gain is, given all gains of its group: the probability to be better, above a margin, within it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.deviations import Error

# Beforehand the mean of a group's true gains has a standard deviation of one margin about zero, and the gains about it one
# of these many margins, log-normal with the median 1.
SPREADS = np.exp(np.linspace(-1.8, 1.8, 10))
LIKELY = np.exp(-(np.log(SPREADS) ** 2) / (2 * 0.7**2))
CENTRE = 1.0
NODES, ROOTS = np.polynomial.hermite_e.hermegauss(9)
PARTS = 12  # of a distribution of variances


class Chances(NamedTuple):
    """Probabilities of a true gain."""

    chance_better: float
    chance_above: float
    chance_within: float


def chances(gains: Sequence[float], errors: Sequence[Error], margin: float) -> list[Chances]:
    """The probabilities of each gain of a group, whose errors share half of their variance, that of the reference.

    Prior: the true gains are normal about a mean that is normal about zero with a deviation of one margin, with a spread that
    is log-normal about one margin (0.5 to 2 in two of three cases); the gains of the group tell both, as far as they can
    (empirical Bayes). Over studies that vary so, with deviations of runs from 0.4 to 1.5 margins, 89 to 92 % of the
    statements of 90 % are true. Not where all true gains are far smaller than the margin and runs deviate by more than it:
    with gains of 0.3, runs of 1.5 margins and one mean for all, a method said to be better with 90 % is so in 60 %,
    since the reference's error looks like a gain of all; nor, of one method with three runs as noisy, for `chance_within`
    (75 %).
    """
    found = np.asarray(gains, float)
    variances = np.stack([_parts(error) for error in errors])  # (M, P)
    middle = np.median(variances, 1)
    shared = middle.min() / 2
    own = np.maximum(variances - shared, variances / 2)
    alone = np.maximum(middle - shared, middle / 2)
    spreads = SPREADS * margin
    centre = (CENTRE * margin) ** 2 + shared  # variance of the mean gain as it is seen
    total = spreads[:, None] ** 2 + alone  # (W, M)
    precision = (1 / total).sum(1) + 1 / centre
    mean = (found / total).sum(1) / precision
    fit = -0.5 * (np.log(total).sum(1) + np.log(precision) + (found**2 / total).sum(1) - precision * mean**2)
    of_spread = LIKELY * np.exp(fit - fit.max())
    seen = mean[:, None] + NODES / np.sqrt(precision)[:, None]  # (W, Q)
    weights = (of_spread / of_spread.sum())[:, None] * ROOTS / ROOTS.sum()
    # The reference's error, given the mean gain as it is seen.
    kept = (CENTRE * margin) ** 2 / centre
    told = []
    for gain, parts in zip(found, own, strict=True):
        both = spreads[:, None, None] ** 2 + parts  # (W, 1, P)
        away = gain - seen[:, :, None]
        shrink = spreads[:, None, None] ** 2 / both
        where = kept * seen[:, :, None] + shrink * away
        width = np.sqrt(shrink * parts + shared * kept)
        logs = -(away**2) / (2 * both) - np.log(both) / 2
        likely = np.exp(logs - logs.max(2, keepdims=True))
        likely = likely / likely.sum(2, keepdims=True) * weights[:, :, None]

        def above(limit: float) -> float:
            return float((likely * special.ndtr((where - limit) / width)).sum())  # noqa: B023

        told.append(Chances(above(0.0), above(margin), above(-margin) - above(margin)))
    return told


def _parts(error: Error) -> np.ndarray:
    """Quantiles (P,) of a distribution of variances."""
    steps = np.cumsum(error.weights) - error.weights / 2
    return np.exp(np.interp((np.arange(PARTS) + 0.5) / PARTS, steps, np.log(error.variances)))
