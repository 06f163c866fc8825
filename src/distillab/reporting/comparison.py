"""Methods compared over seeds: each run against the same student, seed and schedule trained without a teacher."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from distillab.core.result import Result
from distillab.core.result_parts import Primary
from distillab.core.run_identity import config_hash, without
from distillab.evaluation.statistics import mean_interval
from distillab.reporting.gains import Gain, gains, on_samples

# What a row says in columns of its own, and what changes nothing that it compares.
LABELS = (("data", "labels"), ("data", "labelled"), ("teacher", "labelled"), ("teacher", "corrupt_classes"))
NOT_THE_METHOD = ("seed", "baseline", "equal_compute", "cache.mode")  # with every value the same weights come out
TOLD = ("strategy", "student", "teacher", "data", "protocol", "scheme", "recipe.epochs", "data.samples")
TOLD += NOT_THE_METHOD + tuple(f"{role}.{key}" for role, key in LABELS)
NOT_ALONE = ("teacher", "scheme", "cache")  # what changes nothing of a student without a teacher
UNTOLD = ("name", "baseline", "rerun", "logger", "paths", "launcher", "trainer", "sweep", "hydra", "roi")


@dataclass(frozen=True)
class Row:
    """One method on one pair, data set, protocol and budget: all runs that differ in the seed alone.

    What so many seeds do not give is None.

    Attributes:
        train: the data set's number of training images.
        method: strategy and scheme; `none` is the student alone, whose row has no gain.
        results, seeds, scores: one of each seed; a score is the student's primary figure.
        mean, deviation, low, high: of `scores`, with the 95 % t interval of the mean.
        changed: the further overrides of the newest run, without those that all rows of one `place` share.
        gain: over the results' own baselines, corrected over the rows of the same `family`; None where no result has one.
        equal_compute: likewise over the student alone trained for as much compute as with a live teacher.
        on_samples: what the test samples say of the two models of a single seed.
        apart: what sets it apart from the rows of its place, beside method and student: words by the keys of `FACTS`.
    """

    data: str
    train: int | None
    protocol: str
    teacher: str | None
    student: str
    epochs: int | None
    method: str
    results: tuple[Result, ...] = field(repr=False, compare=False)
    seeds: tuple[int | None, ...]
    scores: tuple[float, ...]
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    changed: str = ""
    gain: Gain | None = None
    equal_compute: Gain | None = None
    on_samples: str | None = None
    apart: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def primary(self) -> Primary:
        """What the scores are."""
        return self.results[0].primary

    @property
    def sign(self) -> int:
        """1 where a higher score is better, else -1."""
        return 1 if self.primary.higher_is_better else -1

    @property
    def alone(self) -> bool:
        """Whether the student learned without a teacher."""
        return self.method == "none"

    @property
    def place(self) -> str:
        """Data set and protocol in words; rows of other places are never ranked together."""
        return f"{self.data}, protocol {self.protocol}"

    @property
    def ranking(self) -> tuple[Any, ...]:
        """What rows have in common whose accuracies say which method is better; None sorts last."""
        known = (self.train, self.epochs)
        return self.data, self.protocol, self.student, *((number is None, number or 0) for number in known)

    @property
    def family(self) -> tuple[Any, ...]:
        """What rows have in common whose tests are corrected together."""
        return *self.ranking, self.teacher or "", self.labels

    @property
    def labels(self) -> str:
        """Which labels student and teacher learned from, where it was not all of them."""
        known = ((role, key, self._configured(role, key)) for role, key in LABELS if role == "data" or not self.alone)
        return ", ".join(f"{role}.{key}={value}" for role, key, value in known if value not in (None, "all", 1.0))

    @property
    def labelled(self) -> float:
        """The share of the training images whose label the student alone, every comparison's baseline, learns from."""
        known = self._configured("data", "labelled")
        return 1.0 if known is None else known

    def _configured(self, role: str, key: str) -> Any:
        return (self.results[0].config.get(role) or {}).get(key)

    @property
    def label(self) -> str:
        """The method and what was changed."""
        return " ".join(filter(None, (self.method, self.changed)))

    @property
    def words(self) -> str:
        """What it shows, at equal steps and at equal compute."""
        if self.alone and self.gain is None:
            return "the student alone"
        if self.gain is None:
            return "the gain is unknown: no student trained alone (baseline=true)"
        said = self.on_samples if self.on_samples and len(self.gain.each) == 1 else self.gain.words("methods")
        return f"{said}; at equal compute {self.equal_compute.short}" if self.equal_compute else said


# What may set rows apart that one data set and protocol have in common, in words.
FACTS: Mapping[str, Callable[[Row], str]] = {
    "teacher": lambda row: f"taught by {row.teacher}" if row.teacher and not row.alone else "",
    "epochs": lambda row: "" if row.epochs is None else f"{row.epochs} epochs",
    "train": lambda row: "" if row.train is None else f"{row.train} training images",
    "labels": lambda row: row.labels or "all labels",
}


def compare(results: Sequence[Result]) -> list[Row]:
    """One row for all runs that differ in the seed alone: families together, the best mean first.

    Of two results of one seed counts the one that has a baseline, then the one with a student alone at equal compute,
    then the newest.
    """
    groups: dict[tuple[Any, ...], dict[int | None, Result]] = {}
    for result in sorted(results, key=lambda one: (one.baseline is not None, one.longer is not None, one.created)):
        groups.setdefault(_identity(result), {})[result.seed] = result
    rows = _set_apart(_with_changes([_row(identity[:-1], by_seed) for identity, by_seed in groups.items()]))
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


def _with_changes(rows: list[Row]) -> list[Row]:
    """The rows with what was changed, but for what all rows of one data set and protocol share: it tells none apart."""
    told = [_changed(max(row.results, key=attrgetter("created"))) for row in rows]
    places: dict[str, list[list[str]]] = defaultdict(list)
    for row, words in zip(rows, told, strict=True):
        places[row.place].append(words)
    shared = {place: set.intersection(*map(set, each)) if len(each) > 1 else set() for place, each in places.items()}
    return [
        replace(row, changed=" ".join(word for word in words if word not in shared[row.place]))
        for row, words in zip(rows, told, strict=True)
    ]


def _set_apart(rows: list[Row]) -> list[Row]:
    """The rows with those facts that are not the same in all rows of their data and protocol."""
    facts = [{key: fact(row) for key, fact in FACTS.items()} for row in rows]
    said: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row, own in zip(rows, facts, strict=True):
        for key, fact in own.items():
            said[row.place, key].add(fact)
    differing = {key for key, known in said.items() if len(known - {""}) > 1}
    return [
        replace(row, apart={key: fact for key, fact in own.items() if fact and (row.place, key) in differing})
        for row, own in zip(rows, facts, strict=True)
    ]


def _tested(family: list[Row]) -> list[Row]:
    """The rows of a family with what their gains show."""
    steps, compute = (
        gains([[each for result in row.results if (each := of(result)) is not None] for row in family])
        for of in (_over_baseline, _over_equal_compute)
    )
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
