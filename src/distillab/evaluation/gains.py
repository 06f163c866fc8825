"""How likely a true gain is, given all gains of its group: the probability to be better, above a margin, within it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.deviations import Error

# Beforehand the centre of a group's true gains has a standard deviation of one margin about zero, and the gains about it one
# of these many margins, log-normal with the median 1. One gain in so many is far from all others.
SPREADS = np.exp(np.linspace(-1.8, 1.8, 10))
LIKELY = np.exp(-(np.log(SPREADS) ** 2) / (2 * 0.7**2))
CENTRE = 1.0
FAR = 30.0
OUTLIERS = 0.05
PLACES = np.linspace(-4.5, 4.5, 91)  # of the centre as it is seen, in its deviations beforehand
REFERENCES, PARTS = 5, 8  # quantiles of the variances


class Chances(NamedTuple):
    """Probabilities of a true gain."""

    chance_better: float
    chance_above: float
    chance_within: float


def chances(gains: Sequence[float], errors: Sequence[Error], margin: float) -> list[Chances]:
    """The probabilities of each gain of a group; their errors are in part the reference's, or have nothing in common.

    Prior: the true gains are normal about a centre that is normal about zero with a deviation of one margin, with a spread that
    is log-normal about one margin (0.5 to 2 in two of three cases), but that one in twenty is far from all others, so that a
    method that fails says nothing of the rest. The gains of the group tell centre and spread, as far as they can (empirical
    Bayes). Where nothing is shared, as in pairs of methods, the centre is zero: swapped, a pair is better with the other chance.

    With runs of one margin and true gains of about one margin, 83 to 93 % of the statements of 90 % are true, the fewest for one
    method with three runs; with gains of three margins 91 to 99 %, the most for one method: so few do not tell their spread.
    """
    found = np.asarray(gains, float)
    limits = np.array([0.0, margin, -margin])
    told, evidence = [], []
    for shared, parts in _variances(errors):
        above, fit = _given(found, parts, shared, margin, limits)
        told.append(above)
        evidence.append(fit)
    likely = np.exp(np.array(evidence) - max(evidence))
    better, above, least = np.tensordot(likely / likely.sum(), np.stack(told), 1).T
    return [Chances(*map(float, each)) for each in zip(better, above, least - above, strict=True)]


def _given(
    found: np.ndarray, parts: np.ndarray, shared: float, margin: float, limits: np.ndarray
) -> tuple[np.ndarray, float]:
    """The chances (M, 3) that each true gain is above each limit, given the reference's variance, and the log-likelihood of that.

    `parts` (M, P) are quantiles of what each gain's variance is besides.
    """
    centre = (CENTRE * margin) ** 2 if shared else 0.0
    seen = np.sqrt(centre + shared) * PLACES if shared else np.zeros(1)  # (U,) the centre, with the reference's error
    # Near the others (with each spread) or far from them: the variance (K,) of true gains about their centre.
    far = max(FAR * margin, float(np.abs(found).max()))
    widths = np.append(SPREADS * margin, far)[:, None, None, None] ** 2
    away = found[:, None, None] - seen[:, None]  # (M, U, 1)
    both = widths + parts[:, None, :]  # (K, M, 1, P)
    density = np.exp(-(away**2) / (2 * both)) / np.sqrt(both)  # (K, M, U, P)
    mixed = (1 - OUTLIERS) * density[:-1] + OUTLIERS * density[-1]
    logs = np.log(np.maximum(mixed.mean(3), 1e-300)).sum(1)  # (W, U)
    logs += np.log(LIKELY)[:, None] - (PLACES**2 / 2 if shared else 0)
    weights = np.exp(logs - logs.max())
    weights = (
        weights[:, None, :, None] / np.maximum(mixed.mean(3, keepdims=True), 1e-300) / weights.sum() / parts.shape[1]
    )
    weights = np.concatenate([(1 - OUTLIERS) * weights, OUTLIERS * weights.sum(0, keepdims=True)]) * density
    # The centre itself, and the gain about it.
    kept = centre / (centre + shared) if shared else 0.0
    shrink = widths / both
    where = kept * seen[:, None] + shrink * away
    width = np.sqrt(shrink * parts[:, None, :] + shared * kept)
    above = np.stack([(weights * special.ndtr((where - limit) / width)).sum((0, 2, 3)) for limit in limits], 1)
    return above, float(logs.max() + np.log(np.exp(logs - logs.max()).sum()))


def _variances(errors: Sequence[Error]) -> list[tuple[float, np.ndarray]]:
    """Equally likely variances that all gains have from their reference, each with quantiles (M, P) of what is besides."""
    if errors[0].shared is None:
        return [
            (0.0, np.stack([_quantiles(error.variances.ravel(), error.weights.ravel(), PARTS) for error in errors]))
        ]
    weights = np.stack([error.weights for error in errors])  # (M, A, R)
    made = []
    ends = np.cumsum(of_shared := weights.sum(1).mean(0))
    for part in range(REFERENCES):
        low, high = part / REFERENCES, (part + 1) / REFERENCES
        inside = np.clip(np.minimum(ends, high) - np.maximum(ends - of_shared, low), 0, None)
        share = inside / np.maximum(of_shared, 1e-300)
        shared = float(np.exp(inside @ np.log(errors[0].shared) / inside.sum()))
        rest = [
            _quantiles((error.variances - error.shared).ravel(), (error.weights * share).ravel(), PARTS)
            for error in errors
        ]
        made.append((shared, np.stack(rest)))
    return made


def _quantiles(values: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """As many quantiles of a weighted distribution."""
    logs, place = np.unique(np.round(np.log(np.maximum(values, 1e-300)), 9), return_inverse=True)
    weights = np.bincount(place, weights) / weights.sum()
    return np.exp(np.interp((np.arange(count) + 0.5) / count, np.cumsum(weights) - weights / 2, logs))
