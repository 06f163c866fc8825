"""Methods against each other: on the same seeds, or where there is one seed alone on the same test samples."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from distillab.core.result import Result
from distillab.core.result_parts import Paired
from distillab.evaluation.statistics import paired_samples
from distillab.reporting.gains import Gain, gains, on_samples
from distillab.reporting.rows import Row

Answers = Mapping[str, tuple[Any, Any]]  # config hash → labels and predicted classes (N,) of a run's test samples


@dataclass(frozen=True)
class Pair:
    """Two methods of one family on the seeds that both have; the difference is first minus second."""

    first: Row
    second: Row
    seeds: tuple[int | None, ...]
    difference: Gain
    on_samples: str | None  # what the test samples say of the two models, where there is one seed

    @property
    def words(self) -> str:
        """What the pair shows."""
        return self.on_samples or self.difference.words("pairs")


def against_each_other(rows: Sequence[Row], answers: Answers | None = None) -> list[Pair]:
    """Every two methods of one family by a paired t-test on the same seeds, the better mean first.

    Holm's correction is over the pairs of the family. A student alone of the same ranking, which learned from as many
    labels, is among them unless it is the very baseline of the gains, as after tuning; rows without a seed in common
    have nothing to be paired by. With one seed in common they are compared on the test samples (McNemar), as far as
    their answers are there.
    """
    pairs, alone = [], [row for row in rows if row.alone]
    for _, family in groupby(sorted(rows, key=attrgetter("family")), attrgetter("family")):
        taught = [row for row in family if not row.alone]
        if not taught:
            continue
        found = _comparable([*taught, *(row for row in alone if row.lesson == taught[0].lesson)])
        tested = gains([_differences(*pair) for pair in found], taught[0].metric)
        # All of them: to test the best one alone, chosen on these very samples, would find a winner where there is none.
        samples = on_samples([_on_samples(*pair, answers or {}) for pair in found])
        for (first, second), difference, words in zip(found, tested, samples, strict=True):
            pairs.append(Pair(first, second, _common(first, second), difference, words))
    return pairs


def _comparable(rows: list[Row]) -> list[tuple[Row, Row]]:
    best_first = sorted(rows, key=lambda row: -row.sign * row.mean)
    return [
        (first, second)
        for first, second in combinations(best_first, 2)
        if not (first.alone and second.alone)
        and not (_is_baseline(first, second) or _is_baseline(second, first))
        and _common(first, second)
    ]


def _common(first: Row, second: Row) -> tuple[int | None, ...]:
    """The seeds that both have."""
    return tuple(seed for seed in first.seeds if seed in second.seeds)


def _is_baseline(alone: Row, taught: Row) -> bool:
    """Whether the one is what the gains of the other are over already."""
    trained = {result.baseline and result.baseline.training.checkpoints for result in taught.results}
    return alone.alone and any(result.student.training.checkpoints in trained for result in alone.results)


def _differences(first: Row, second: Row) -> list[float]:
    own, other = (dict(zip(row.seeds, row.scores, strict=True)) for row in (first, second))
    return [first.primary.gain(own[seed], other[seed]) for seed in _common(first, second)]


def _on_samples(first: Row, second: Row, answers: Answers) -> Paired | None:
    """The test over test samples of the two students of the only seed in common; None where it cannot be made."""
    common = _common(first, second)
    told = [answers.get(row.results[row.seeds.index(common[0])].config_hash) for row in (first, second)]
    if len(common) > 1 or None in told:
        return None
    (labels, one), (same, other) = told
    return paired_samples(one == labels, other == labels) if labels.tolist() == same.tolist() else None


def read_predictions(results: Sequence[Result], runs: Path) -> tuple[Answers, list[str]]:
    """What the students of these runs below `runs` answered, as far as it was kept, and a line for each damaged file."""
    found, left_out = {}, []
    for result in results:
        path = Path(runs, result.name, result.config_hash, "predictions.npz")
        if answers := _read(path):
            found[result.config_hash] = answers
        elif path.is_file():
            left_out.append(f"{path}: no labels and answers of as many test samples")
    return found, left_out


def _read(path: Path) -> tuple[Any, Any] | None:
    import numpy as np

    try:
        with np.load(path) as kept:
            labels, student = kept["labels"], kept["student"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error):
        return None
    whole = labels.ndim == 1 and labels.shape == student.shape and labels.size
    return (labels, student) if whole and labels.dtype.kind in "iu" and student.dtype.kind in "iu" else None
