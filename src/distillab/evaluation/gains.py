"""How likely a true gain is, given all gains of its group: the probability to be better, above a margin, within it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.deviations import Error

# Deviations beforehand, in margins: of the centre of a group's true gains about zero, usual or large, with their chances;
# of the gains about it, log-normal, usual or large: chance, median, width; and of the share of gains far from all others.
CENTRES, OF_CENTRE = np.array([1.0, 12.0]), np.array([0.7, 0.3])
OF_SPREAD = ((0.6, 1.0, 0.7), (0.4, 12.0, 1.0))
SPREADS = np.exp(np.linspace(-1.8, 4.2, 11))
LIKELY = sum(c / width * np.exp(-(np.log(SPREADS / middle) ** 2) / (2 * width**2)) for c, middle, width in OF_SPREAD)
FAR, OUTLIERS = 30.0, 0.05
PLACES = np.linspace(-4.5, 4.5, 25)  # of the centre as it is seen, in each of its deviations beforehand
NEAR = 0.4 * np.sinh(np.linspace(-3, 3, 41))  # and about each gain, in the deviation of that
REFERENCES, PARTS = 5, 8  # quantiles of the variances


class Chances(NamedTuple):
    """Probabilities of a true gain."""

    chance_better: float
    chance_above: float
    chance_within: float


def chances(gains: Sequence[float], errors: Sequence[Error], margin: float) -> list[Chances]:
    """The probabilities of each gain of a group; their errors are in part the reference's, or have nothing in common.

    Prior: the true gains are normal about a centre that is normal about zero, with a deviation of one margin or, in three of
    ten groups, of twelve: a gain of all of ten margins is then a gain, not the reference's error. Their spread is log-normal
    about one margin (0.5 to 2 in two of three cases) or, in two of five groups, about twelve (4 to 33). One in twenty is far
    from all others, so that a method that fails says nothing of the rest. The gains of the group tell all this, as far as they
    can (empirical Bayes). Where nothing is shared, as in pairs of methods, the centre is zero: swapped, a pair is better with
    the other chance.

    Of the statements of 90 %, 90 to 92 % are true with runs of one margin and centres of about one margin (1 or 5 methods, 3
    or 5 runs, a spread of one margin), 92 to 94 % with centres of about three, 90 to 96 % with ten: the most for few runs.
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
    centres, seen, prior = np.zeros(1), np.zeros(1), np.ones((1, 1))  # (C,), (U,), (C, U)
    if shared:
        centres = (CENTRES * margin) ** 2
        seen, prior = _places(found, np.sqrt(parts.mean(1) + (margin / 2) ** 2), centres + shared)
    # Near the others (with each spread) or far from them: the variance (K,) of true gains about their centre.
    far = max(FAR * margin, float(np.abs(found).max()))
    widths = np.append(SPREADS * margin, far)[:, None, None, None] ** 2
    away = found[:, None, None] - seen[:, None]  # (M, U, 1)
    both = widths + parts[:, None, :]  # (K, M, 1, P)
    density = np.exp(-(away**2) / (2 * both)) / np.sqrt(both)  # (K, M, U, P)
    mixed = np.maximum(((1 - OUTLIERS) * density[:-1] + OUTLIERS * density[-1]).mean(3), 1e-300)  # (W, M, U)
    logs = np.log(mixed).sum(1) + np.log(LIKELY)[:, None] + np.log(prior.sum(0))  # (W, U)
    weights = np.exp(logs - logs.max())
    weights = (weights[:, None] / mixed / weights.sum() / parts.shape[1])[..., None]
    weights = np.concatenate([(1 - OUTLIERS) * weights, OUTLIERS * weights.sum(0, keepdims=True)]) * density
    # The centre itself, and the gain about it.
    above = np.zeros((len(found), len(limits)))
    shrink = widths / both
    # What has next to no weight is left out.
    kept = spread, method, place, part = np.nonzero(weights > 1e-5 / weights[0, 0].size)
    weights, shrink = weights[kept], shrink[spread, method, 0, part]
    for centre, likely in zip(centres, prior / prior.sum(0), strict=True):
        true = centre / (centre + shared) if shared else 0.0
        where = true * seen[place] + shrink * away[method, place, 0]
        width = np.sqrt(shrink * parts[method, part] + shared * true)
        for column, limit in enumerate(limits):
            each = weights * likely[place] * special.ndtr((where - limit) / width)
            above[:, column] += np.bincount(method, each, len(found))
    return above, float(logs.max() + np.log(np.exp(logs - logs.max()).sum()))


def _places(found: np.ndarray, widths: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the centre may be seen (U,), and how likely that is with each of its variances beforehand (C, U).

    The places are close about zero and about the gains, which may be far from it and known well.
    """
    near = np.quantile(found[:, None] + widths[:, None] * NEAR, np.linspace(0, 1, len(NEAR)))
    seen = np.unique(np.concatenate([near, *np.sqrt(variances)[:, None] * PLACES]))
    prior = np.exp(-(seen**2) / (2 * variances[:, None])) / np.sqrt(variances[:, None])
    return seen, np.maximum(OF_CENTRE[:, None] * prior * np.gradient(seen), 1e-300)


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
