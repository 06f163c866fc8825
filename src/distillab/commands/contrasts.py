"""Runs of a sweep against one another, for the tests of `evaluation.families`: by score, and by test sample where kept."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distillab.core.output import rank_zero_print
from distillab.core.result_parts import Primary
from distillab.evaluation.families import Contrast
from distillab.evaluation.kept import NAME, by_sample, differences


class Scored(NamedTuple):
    """One run: its score on test, larger is better, and its figure on each test sample (I,), where that was kept."""

    score: float
    samples: np.ndarray | None = None


def scored(folder: Path, primary: Primary) -> Scored:
    """The run that lies in a folder, with this figure; a damaged file of answers is named and left out."""
    score = float(primary.value if primary.higher_is_better else -primary.value)
    try:
        return Scored(score, by_sample(folder / NAME, primary.name))
    except ValueError as error:
        rank_zero_print(f"{error}; left out")
        return Scored(score)


def contrast(
    own: Sequence[Scored],
    reference: Sequence[Scored],
    *,
    group: Hashable = "",
    seeds: Sequence[int] = (),
    pair: tuple[Hashable, Hashable] | None = None,
) -> Contrast:
    """Runs against as many others, in their order; by test sample where all of them have the same number."""
    scores = (np.array([one.score for one in runs]) for runs in (own, reference))
    samples = differences([(one.samples, other.samples) for one, other in zip(own, reference, strict=True)])
    return Contrast(*scores, samples, group, tuple(seeds) or None, pair)
