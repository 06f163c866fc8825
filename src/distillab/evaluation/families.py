"""What the gains of a family of methods show: one correction, shared deviations, test samples as a source of variance."""

from collections.abc import Sequence
from typing import NamedTuple

from distillab.evaluation.contrast import Contrast, by_group
from distillab.evaluation.corrections import Correction
from distillab.evaluation.deviations import Error, errors
from distillab.evaluation.gains import Chances, chances
from distillab.evaluation.statistics import LEVEL, last, score_test


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
    (inverse chi-square as in Smyth 2004, over whose degrees of freedom it is averaged). The reference has a deviation of its
    own, which may be far larger: its few runs alone tell, and its error is in the gains of all. p is the tail of the gain
    averaged over both. The correction is that of the largest of correlated variables (Dunnett 1955), averaged likewise
    (`corrections.Correction`). docs/studies.md has how often a family shows anything wrongly.
    """
    found = errors(contrasts)
    groups = [[found[place] for place in places if found[place]] for places in by_group(contrasts).values()]
    correct = Correction([group for group in groups if group], sum(map(_on_samples_alone, contrasts)))
    alpha = last(lambda p: correct(p) <= 1 - LEVEL, 0.0, 1.0)  # at which each is tested alone
    known = _chances(contrasts, found, margin)
    return [_finding(*each, correct, alpha) for each in zip(contrasts, found, known, strict=True)]


def _on_samples_alone(contrast: Contrast) -> bool:
    return len(contrast.own) == 1 and contrast.samples is not None


def _finding(
    contrast: Contrast, error: Error | None, chance: Chances | None, correct: Correction, alpha: float
) -> Finding:
    gain = contrast.gain
    found = Finding(gain, len(contrast.own), size=correct.size)
    if _on_samples_alone(contrast):
        _, low, high, p = score_test(contrast.samples[0], 1 - alpha)
        return found._replace(low=low, high=high, p=correct(p), speaks_of=("samples",))
    if error is None:
        return found
    half = error.half(alpha)
    return found._replace(
        low=gain - half,
        high=gain + half,
        p=correct(error.p(gain)),
        speaks_of=("runs",) if contrast.samples is None else ("runs", "samples"),
        **chance._asdict(),
    )


def _chances(contrasts: Sequence[Contrast], known: Sequence[Error | None], margin: float) -> list[Chances | None]:
    found: list[Chances | None] = [None] * len(contrasts)
    for places in by_group(contrasts).values():
        places = [place for place in places if known[place] is not None]
        if places:
            gains = [contrasts[place].gain for place in places]
            for place, chance in zip(places, chances(gains, [known[place] for place in places], margin), strict=True):
                found[place] = chance
    return found
