"""Runs of a sweep against one another, for the tests of `evaluation.families`: by score, and by test sample where kept."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distillab.commands.invocation import finished
from distillab.evaluation.families import Contrast
from distillab.reporting.comparison import read_predictions

ROUNDING = 1e-6  # by which a score may differ from the share of right answers


class Scored(NamedTuple):
    """One run: its score on test, larger is better, and which answers to the test samples (I,) are right, where kept."""

    score: float
    right: np.ndarray | None = None


def scored(folder: Path, score: float, *, up: bool) -> Scored:
    """The run that lies in `folder`, whose primary figure is `score`; `up`: larger is better.

    Its answers count where the score is their share: no other figure is a mean over test samples.
    """
    result = finished(folder)
    known = read_predictions([result], folder.parents[1])[0] if result is not None else {}
    signed = score if up else -score
    if not known:
        return Scored(signed)
    labels, answers = known[result.config_hash]
    right = (labels == answers).astype(float)
    return Scored(signed, right if abs(right.mean() - score) < ROUNDING else None)


def contrast(
    own: Sequence[Scored], reference: Sequence[Scored], *, group: Hashable = "", seeds: Sequence[int] = ()
) -> Contrast:
    """Runs against as many others, in their order; by test sample where all of them have the same number."""
    scores = (np.array([one.score for one in runs]) for runs in (own, reference))
    sizes = {None if one.right is None else len(one.right) for one in (*own, *reference)}
    samples = None
    if None not in sizes and len(sizes) == 1:
        samples = np.array([one.right - other.right for one, other in zip(own, reference, strict=True)])
    return Contrast(*scores, samples, group, tuple(seeds) or None)
