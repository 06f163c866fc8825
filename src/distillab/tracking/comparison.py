"""Methods compared over seeds: each run against the same student, seed and schedule trained without a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, groupby
from operator import attrgetter
from typing import Any

from distillab.evaluation.statistics import LEVEL, holm, mean_interval, paired_test, smallest_gain
from distillab.tracking.result import config_hash, method, without
from distillab.tracking.table import percent, points

Result = Mapping[str, Any]

# What a row says in columns of its own, and what changes nothing that it compares.
TOLD = ("seed", "strategy", "student", "teacher", "data", "protocol", "scheme", "recipe.epochs", "data.samples")
NOT_THE_METHOD = ("seed", "baseline", "equal_compute", "cache.mode")  # with every value the same weights come out
LABELS = (("data", "labels"), ("data", "labelled"), ("teacher", "labelled"), ("teacher", "corrupt_classes"))
UNTOLD = ("name", "baseline", "rerun", "logger", "paths", "launcher", "trainer", "sweep", "hydra", "roi")


@dataclass(frozen=True)
class Row:
    """One method on one pair, data set, protocol and budget: all runs that differ in the seed alone.

    Accuracies and gains are shares of one; what so many seeds do not give is None.

    Attributes:
        data, train: the data set's name and its number of training images, None where a result does not say it.
        protocol, teacher, student: names; the teacher is None where there was none.
        epochs: the budget, from the recipe.
        method: strategy and scheme; `none` is the student alone, whose row has no gain.
        changed: the further overrides of the newest run.
        results: the newest of each seed, in the order of `seeds`.
        seeds, top1: of the student, one each.
        mean, deviation, low, high: of `top1`, with the 95 % t interval of the mean.
        gains: over the result's own baseline, for the seeds whose result has one, in the order of `seeds`.
        gain_mean, gain_low, gain_high, p: of the paired t-test over `gains`.
        p_holm: `p` by Holm's correction over the rows of the same `family`.
        smallest_gain: that so many seeds would have shown with a power of 80 %, at the strictest of Holm's steps.
        words: what it shows.
    """

    data: str
    train: int | None
    protocol: str
    teacher: str | None
    student: str
    epochs: int | None
    method: str
    changed: str
    results: tuple[Result, ...] = field(repr=False, compare=False)
    seeds: tuple[int | None, ...]
    top1: tuple[float, ...]
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    gains: tuple[float, ...]
    gain_mean: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    smallest_gain: float | None = None
    words: str = ""

    @property
    def alone(self) -> bool:
        """Whether the student learned without a teacher."""
        return self.method == "none"

    @property
    def ranking(self) -> tuple[Any, ...]:
        """What rows have in common that may stand in one ranking; None sorts last."""
        known = (self.train, self.epochs)
        return self.data, self.protocol, self.student, *((number is None, number or 0) for number in known)

    @property
    def family(self) -> tuple[Any, ...]:
        """What rows have in common whose tests are corrected together."""
        return *self.ranking, self.teacher or "", self.labels

    @property
    def labels(self) -> str:
        """Which labels student and teacher learned from, where it was not all of them."""
        config = self.results[0].get("config") or {}
        learned = {f"{role}.{key}": (config.get(role) or {}).get(key) for role, key in LABELS}
        return ", ".join(f"{key}={value}" for key, value in learned.items() if value not in (None, "all", 1.0))

    @property
    def label(self) -> str:
        """The method and what was changed."""
        return " ".join(filter(None, (self.method, self.changed)))


@dataclass(frozen=True)
class Pair:
    """Two methods of one family on the seeds that both have; the difference is first minus second, in shares of one."""

    first: Row
    second: Row
    seeds: tuple[int | None, ...]
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    words: str


def compare(results: Sequence[Result]) -> list[Row]:
    """One row for all runs that differ in the seed alone: families together, the best mean first.

    Of two results of one seed the newest counts.

    Args:
        results: as `reading.load_all` gives them; older ones may lack what is not required of a result.
    """
    groups: dict[tuple[Any, ...], dict[int | None, Result]] = {}
    for result in sorted(results, key=lambda result: result["created"]):
        groups.setdefault(_identity(result), {})[_seed(result)] = result
    rows = [_row(identity[:-1], by_seed) for identity, by_seed in groups.items()]
    # By family alone at first: a stable sort keeps the rest of the order.
    rows = sorted(sorted(rows, key=lambda row: (-row.mean, row.label)), key=attrgetter("family"))
    return [row for _, family in groupby(rows, attrgetter("family")) for row in _tested(list(family))]


def against_each_other(rows: Sequence[Row]) -> list[Pair]:
    """Every two methods of one family by a paired t-test on the same seeds, the better mean first.

    Holm's correction is over the pairs of the family. A student alone of the same ranking is among them unless it is
    the very baseline of the gains, as after tuning; rows without a seed in common have nothing to be paired by.
    """
    pairs = []
    alone = [row for row in rows if row.alone]
    for _, family in groupby(sorted(rows, key=attrgetter("family")), attrgetter("family")):
        taught, found = [row for row in family if not row.alone], []
        others = [row for row in alone if taught and row.ranking == taught[0].ranking]
        best_first = sorted((*taught, *others), key=lambda row: -row.mean)
        for first, second in combinations(best_first, 2):
            if (first.alone and second.alone) or _is_baseline(first, second) or _is_baseline(second, first):
                continue
            by_seed = [dict(zip(row.seeds, row.top1, strict=True)) for row in (first, second)]
            seeds = tuple(seed for seed in first.seeds if seed in by_seed[1])
            if seeds:
                test = paired_test([by_seed[0][seed] - by_seed[1][seed] for seed in seeds])
                found.append((first, second, seeds, test))
        adjusted = holm([test.p for *_, test in found])
        tests = sum(p is not None for p in adjusted)
        for (first, second, seeds, test), p_holm in zip(found, adjusted, strict=True):
            least = smallest_gain(test.deviation, len(seeds), _level(tests))
            words = _words(test, p_holm, len(seeds), tests, least, "pairs")
            pairs.append(Pair(first, second, seeds, test.mean, test.low, test.high, test.p, p_holm, words))
    return pairs


def _is_baseline(alone: Row, taught: Row) -> bool:
    """Whether the one is what the gains of the other are over already."""
    trained = {(result.get("baseline") or {}).get("checkpoints") for result in taught.results}
    return alone.alone and any(result["student"].get("checkpoints") in trained for result in alone.results)


def _identity(result: Result) -> tuple[Any, ...]:
    """What all runs of a row have in common; the last part, the hash of the config without its seed, has no column."""
    config, data = result.get("config") or {}, result["data"]
    rest = without(config, NOT_THE_METHOD)
    recipe = config.get("recipe")
    epochs = recipe.get("epochs") if isinstance(recipe, Mapping) else result["student"].get("epochs")
    teacher = (result.get("teacher") or {}).get("name")
    shown = (data["name"], data.get("train"), result["protocol"], teacher, result["student"]["name"], epochs)
    # A result without a config is known by what its command changed.
    return *shown, method(result), config_hash(rest) if rest else _changed(result)


def _seed(result: Result) -> int | None:
    return result["seeds"].get("seed", (result.get("config") or {}).get("seed"))


def _changed(result: Result) -> str:
    """The overrides that no column tells, in a fixed order."""
    words = []
    for word in result.get("overrides") or []:
        key = word.lstrip("+~").partition("=")[0].partition("@")[0]
        if key not in TOLD and key.partition(".")[0].partition("/")[0] not in UNTOLD:
            words.append(word)
    return " ".join(sorted(words))


def _row(shown: tuple[Any, ...], by_seed: dict[int | None, Result]) -> Row:
    seeds = tuple(sorted(by_seed, key=lambda seed: (seed is None, seed)))
    results = tuple(by_seed[seed] for seed in seeds)
    top1 = tuple(result["student"]["top1"] for result in results)
    paired = [] if results[0]["strategy"] == "none" else [result for result in results if result.get("baseline")]
    gains = tuple(result["student"]["top1"] - result["baseline"]["top1"] for result in paired)
    changed = _changed(max(results, key=lambda result: result["created"]))
    return Row(*shown, changed, results, seeds, top1, *mean_interval(top1), gains)


def _tested(family: list[Row]) -> list[Row]:
    """The rows of a family with their gains, tests and words."""
    tests = [paired_test(row.gains) if row.gains else None for row in family]
    adjusted = holm([test and test.p for test in tests])
    count = sum(p is not None for p in adjusted)
    rows = []
    for row, test, p_holm in zip(family, tests, adjusted, strict=True):
        if test is None:
            known = (
                "the student alone" if row.alone else "the gain is unknown: no student trained alone (baseline=true)"
            )
            rows.append(replace(row, words=known))
            continue
        least = smallest_gain(test.deviation, len(row.gains), _level(count))
        words = _words(test, p_holm, len(row.gains), count, least, "methods")
        if len(row.gains) == 1:
            words = _one_seed(row) or words
        numbers = {"gain_mean": test.mean, "gain_low": test.low, "gain_high": test.high, "p": test.p}
        rows.append(replace(row, **numbers, p_holm=p_holm, smallest_gain=least, words=words))
    return rows


def _level(tests: int) -> float:
    """The level at which one of so many tests is shown whatever the others say."""
    return 1 - (1 - LEVEL) / max(tests, 1)


def _one_seed(row: Row) -> str | None:
    """What the test samples say of the two models of a single seed."""
    paired = next(result for result in row.results if result.get("baseline")).get("paired") or {}
    return paired.get("words")


def _words(test: Any, p_holm: float | None, seeds: int, tests: int, least: float | None, among: str) -> str:
    size = f"{points(test.mean, 1)} points"
    if seeds == 1:
        return f"{size} with one seed, which says nothing of the methods (seed=0,1,2)"
    if test.low is None:
        equal = "no difference shown: none" if test.p == 1 else size
        return f"{equal} with each of {seeds} seeds, and without a spread nothing can be tested"
    if p_holm < 1 - LEVEL:
        sign = "shown" if test.mean > 0 else "a loss, shown"
        return f"{size} (95 % interval {percent(test.low, 1)} to {percent(test.high, 1)}), {sign}"
    corrected = f" among {tests} {among} (p = {test.p:.2g} alone, {p_holm:.2g} by Holm's correction)"
    known = corrected if test.p < 1 - LEVEL else ""
    return f"no difference shown{known}; {seeds} seeds could have shown {percent(least, 1)} points"
