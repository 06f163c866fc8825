"""Methods compared over seeds: each with the same student, seed and schedule without a teacher, and with one another."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from distillab.core.result import Result
from distillab.core.result_parts import Paired
from distillab.core.run_identity import config_hash, without
from distillab.evaluation.statistics import mean_interval, paired_samples
from distillab.reporting.rows import FACTS, LABELS, Gain, Row, gains, on_samples

Answers = Mapping[str, tuple[Any, Any]]  # config hash → labels and predicted classes (N,) of a run's test samples
# What changes nothing that a row compares: with every value the same weights come out.
NOT_THE_METHOD = ("seed", "baseline", "equal_compute", "cache.mode")
TOLD = ("strategy", "student", "teacher", "data", "protocol", "scheme", "recipe.epochs", "recipe.steps", "data.samples")
TOLD += NOT_THE_METHOD + tuple(f"{role}.{key}" for role, key in LABELS)
NOT_ALONE = ("teacher", "scheme", "cache")  # what changes nothing of a student without a teacher
UNTOLD = ("name", "baseline", "rerun", "logger", "paths", "launcher", "trainer", "sweep", "hydra", "roi")

MOST_SAMPLES = 10**7  # of a test whose size is not known


def compare(results: Sequence[Result]) -> list[Row]:
    """One row for all runs that differ in the seed alone: families together, the best mean first.

    Of two results of one seed counts the one that has a baseline, then the one with a student alone at equal compute,
    then the newest.
    """
    groups: dict[tuple[Any, ...], dict[int | None, Result]] = {}
    for result in sorted(results, key=lambda one: (one.baseline is not None, one.longer is not None, one.created)):
        groups.setdefault(_identity(result), {})[result.seed] = result
    rows = sorted((_row(identity[:-1], by_seed) for identity, by_seed in groups.items()), key=attrgetter("place"))
    rows = [row for _, members in groupby(rows, attrgetter("place")) for row in _told_apart(list(members))]
    # By family alone at first: a stable sort keeps the rest of the order.
    rows = sorted(sorted(rows, key=lambda row: (-row.sign * row.mean, row.label)), key=attrgetter("family"))
    return [row for _, family in groupby(rows, attrgetter("family")) for row in _tested(list(family))]


def _identity(result: Result) -> tuple[Any, ...]:
    """What all runs of a row have in common; the last part, config without seed and own code, has no column."""
    data, alone = result.data, result.method == "none"
    rest = without(result.config, NOT_THE_METHOD + (NOT_ALONE if alone else ()))
    recipe = result.config.get("recipe")
    length = recipe if isinstance(recipe, Mapping) else {"epochs": result.student.training.epochs}
    counted = (length.get("epochs"), length.get("steps"))
    teacher = None if alone or not result.teacher else result.teacher.name
    shown = (data.name, data.train, result.protocol, teacher, result.student.name, *counted)
    # A result without a config is known by what its command changed.
    known = config_hash(rest) if rest else " ".join(_changed(result))
    return *shown, result.method, f"{known} {result.versions.get('code') or ''}"


def _changed(result: Result) -> list[str]:
    """The overrides that no column tells, in a fixed order."""

    def key(word: str) -> str:
        return word.lstrip("+~").partition("=")[0].partition("@")[0]

    told = (word for word in result.overrides if key(word) not in TOLD)
    return sorted(word for word in told if key(word).partition(".")[0].partition("/")[0] not in UNTOLD)


def _row(shown: tuple[Any, ...], by_seed: dict[int | None, Result]) -> Row:
    seeds = tuple(sorted(by_seed, key=lambda seed: (seed is None, seed)))
    results = tuple(by_seed[seed] for seed in seeds)
    scores = tuple(result.primary.value for result in results)
    return Row(*shown, results, seeds, scores, *mean_interval(scores))


def _told_apart(rows: list[Row]) -> list[Row]:
    """The rows of one data set and protocol with what they do not all share: what was changed, and the facts."""
    told = [_changed(max(row.results, key=attrgetter("created"))) for row in rows]
    shared = set.intersection(*map(set, told)) if len(rows) > 1 else set()
    changed = [" ".join(word for word in words if word not in shared) for words in told]
    facts = {key: [fact(row) for row in rows] for key, fact in FACTS.items()}
    differing = {key: said for key, said in facts.items() if len({*said} - {""}) > 1}
    apart = [{key: said[number] for key, said in differing.items() if said[number]} for number in range(len(rows))]
    return [replace(row, changed=word, apart=fact) for row, word, fact in zip(rows, changed, apart, strict=True)]


def _tested(family: list[Row]) -> list[Row]:
    """The rows of a family with what their gains show."""
    by_steps, by_compute = (
        [[gain for gain in map(over, row.results) if gain is not None] for row in family]
        for over in (_over_baseline, _over_equal_compute)
    )
    steps, compute = gains(by_steps, family[0].metric), gains(by_compute, family[0].metric)
    # The test over test samples is of the two models of a single seed.
    paired = [
        next(result.paired for result in row.results if result.baseline) if gain and len(gain.each) == 1 else None
        for row, gain in zip(family, steps, strict=True)
    ]
    made = zip(family, steps, compute, on_samples(paired), strict=True)
    return [replace(row, gain=gain, equal_compute=equal, on_samples=words) for row, gain, equal, words in made]


def _over_baseline(result: Result) -> float | None:
    if result.alone or not result.baseline:
        return None
    return result.primary.gain(result.primary.value, result.score("baseline"))


def _over_equal_compute(result: Result) -> float | None:
    equal = result.cost and result.cost.equal_compute
    return None if _over_baseline(result) is None or not equal else equal.gain_live


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
        if not os.path.lexists(path):
            continue
        try:
            found[result.config_hash] = _answers(path, result.data.test)
        except Exception:  # a damaged archive may raise nearly anything
            left_out.append(f"{path}: no labels and answers of as many test samples")
    return found, left_out


def _answers(path: Path, samples: int | None) -> tuple[Any, Any]:
    """Labels and the student's answers out of a file that may be anything; raises whatever that leads to."""
    import numpy as np

    names = "labels", "student"
    if not path.is_file():
        raise ValueError("no file")
    with ZipFile(path) as archive:  # what is far larger unpacked than its samples is never unpacked
        unpacked = sum(archive.getinfo(f"{name}.npy").file_size for name in names)
    if unpacked > 16 * (MOST_SAMPLES if samples is None else samples) + 10_000:
        raise ValueError("too large")
    with np.load(path, allow_pickle=False) as kept:
        labels, answers = (kept[name] for name in names)
    if not (labels.ndim == 1 and labels.size and labels.shape == answers.shape):
        raise ValueError("not of the same samples")
    if not all(each.dtype.kind in "iu" for each in (labels, answers)):
        raise ValueError("no classes")
    return labels, answers
