"""The chance that a family of tests shows anything where nothing differs (Dunnett 1955, with deviations that are not known)."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from distillab.evaluation.deviations import Error

# Of the reference's error, which is symmetric.
NODES, ROOTS = (half[8:] for half in np.polynomial.hermite_e.hermegauss(16))
LEVELS = np.array([*np.geomspace(1e-8, 0.1, 16), 0.2, 0.35, 0.5, 0.7, 0.85, 1.0])  # of one test alone
HALVES = 100
LEAST = 1e-3  # weights of deviations that are left out


class Correction:
    """The chance that one of all tests has a p as small, by the p of one test alone.

    `groups` are the errors of the gains that share a reference, `single` how many tests are independent of all others.
    """

    def __init__(self, groups: Sequence[Sequence[Error]], single: int = 0) -> None:
        none = (1 - LEVELS) ** single
        for group in groups:
            none = none * _none(group)
        self.size = sum(map(len, groups)) + single
        self.chance = np.maximum.accumulate(np.maximum(1 - none, LEVELS))

    def __call__(self, p: float) -> float:
        """The adjusted p."""
        if self.size == 1:
            return float(p)
        at = np.log(max(p, LEVELS[0]))
        return float(np.exp(np.interp(at, np.log(LEVELS), np.log(self.chance))))


def _none(group: Sequence[Error]) -> np.ndarray:
    """The chance (L,) that none of a group's gains is so far from the true one that its p alone is at a level."""
    ends = np.stack([_ends(error) for error in group])  # (M, L)
    if group[0].shared is None:
        return (1 - LEVELS) ** len(group)
    weights = np.stack([error.weights for error in group])  # (M, A, R)
    of_shared = weights.sum(1).mean(0)
    none = np.zeros(len(LEVELS))
    kept = of_shared > LEAST
    for place in np.flatnonzero(kept):
        shared = group[0].shared[place]
        given = weights[:, :, place]
        likely = (given / given.sum(1, keepdims=True)).max(0) > LEAST
        given = given[:, likely] / given[:, likely].sum(1, keepdims=True)
        rest = np.stack([error.variances[likely, place] - shared for error in group])
        rest = np.sqrt(np.maximum(rest, 1e-12 * shared))[:, None, :, None]
        shift = np.sqrt(shared) * NODES
        far = ends[:, :, None, None]
        inside = special.ndtr((far - shift) / rest) - special.ndtr((-far - shift) / rest)  # (M, L, A, Q)
        alone = np.einsum("mlaq,ma->mlq", inside, given)
        none += of_shared[place] / of_shared[kept].sum() * (alone.prod(0) @ ROOTS) / ROOTS.sum()
    return none


def _ends(error: Error) -> np.ndarray:
    """The half (L,) of the interval at each level."""
    known = error.trimmed()
    deviations = np.sqrt(known.variances)
    halves = np.geomspace(deviations.min() * 1e-3, deviations.max() * 40, HALVES)
    p = 2 * special.ndtr(-halves[:, None] / deviations) @ known.weights
    return np.exp(np.interp(-np.log(LEVELS), -np.log(np.maximum(p, 1e-300)), np.log(halves)))
