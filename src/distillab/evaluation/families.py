"""What the gains of a family of methods show: one correction, shared deviations, test samples as a source of variance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from distillab.evaluation.deviations import Contrast, Error, by_group, errors
from distillab.evaluation.gains import Chances, chances
from distillab.evaluation.statistics import LEVEL, last, score_test

NODES, ROOTS = np.polynomial.hermite_e.hermegauss(40)


class Finding(NamedTuple):
    """What a contrast shows.

    Attributes (what so few runs do not give is None):
        gain: mean of own - reference; runs: how many.
        low, high: simultaneous 95 % interval over the family. It leaves out zero exactly where p is below .05.
        p: two-sided, adjusted for the family; size: how many tests the family has.
        speaks_of: `("runs",)`, `("runs", "samples")` or, of one run, `("samples",)`: the interval is of other runs, other
            test samples, or both. () where nothing is tested.
        chance_better, chance_above, chance_within: the probability that the true gain is above zero, above the margin,
            and within the margin of zero, by `gains.chances`.
    """

    gain: float
    runs: int
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


def family(contrasts: Sequence[Contrast], margin: float = 0.01) -> list[Finding]:
    """The findings of all contrasts that a reader sees together, corrected for each other.

    Methods share a deviation as far as their runs agree on it: the posterior of each has a prior that the others' runs make
    (inverse chi-square as in Smyth 2004, over whose degrees of freedom it is averaged), and p is the tail of the gain averaged
    over it. The correction is that of the largest of correlated normal variables (Dunnett 1955). In simulations with 3 and
    5 seeds a family of up to 39 methods shows anything wrongly in about 5 % of the cases at most, also where deviations
    differ by a factor of four. Not where the reference alone is that much noisier than all methods (7 % of two methods, 17 %
    of 39): three runs cannot tell that from a gain of all.
    """
    found = errors(contrasts)
    tested = [error is not None or _on_samples_alone(one) for one, error in zip(contrasts, found, strict=True)]
    common = [_common([found[place] for place in places if tested[place]]) for places in by_group(contrasts).values()]
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
    gain = float(differences.mean())
    found = Finding(gain, len(differences), size=sum(map(len, common)))
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
    for places in by_group(contrasts).values():
        places = [place for place in places if known[place] is not None]
        if places:
            gains = [float(np.mean(contrasts[place].own) - np.mean(contrasts[place].reference)) for place in places]
            for place, chance in zip(places, chances(gains, [known[place] for place in places], margin), strict=True):
                found[place] = chance
    return found
