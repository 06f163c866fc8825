"""Methods compared over seeds: each run against the same student, seed and schedule trained without a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from distillab.core.result import Result
from distillab.core.run_identity import config_hash, without
from distillab.evaluation.statistics import mean_interval
from distillab.reporting.gains import gains, on_samples
from distillab.reporting.rows import FACTS, LABELS, Row

# What changes nothing that a row compares: with every value the same weights come out.
NOT_THE_METHOD = ("seed", "baseline", "equal_compute", "cache.mode")
TOLD = ("strategy", "student", "teacher", "data", "protocol", "scheme", "recipe.epochs", "data.samples")
TOLD += NOT_THE_METHOD + tuple(f"{role}.{key}" for role, key in LABELS)
NOT_ALONE = ("teacher", "scheme", "cache")  # what changes nothing of a student without a teacher
UNTOLD = ("name", "baseline", "rerun", "logger", "paths", "launcher", "trainer", "sweep", "hydra", "roi")


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
    """What all runs of a row have in common; the last part, the hash of the config without its seed, has no column."""
    data, alone = result.data, result.method == "none"
    rest = without(result.config, NOT_THE_METHOD + (NOT_ALONE if alone else ()))
    recipe = result.config.get("recipe")
    epochs = recipe.get("epochs") if isinstance(recipe, Mapping) else result.student.training.epochs
    teacher = None if alone or not result.teacher else result.teacher.name
    shown = (data.name, data.train, result.protocol, teacher, result.student.name, epochs)
    # A result without a config is known by what its command changed.
    return *shown, result.method, config_hash(rest) if rest else " ".join(_changed(result))


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
