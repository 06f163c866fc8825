"""A row of every comparison: one method on one pair of networks over its seeds, and what its gains show."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distillab.core.result import Result, Role, gain_and_gap
from distillab.core.result_parts import Entry, Paired, Primary
from distillab.evaluation.payback import machine
from distillab.evaluation.statistics import LEVEL, holm, paired_test, smallest_gain
from distillab.reporting.metric_table import Metric, metric, samples

# What a row says in columns of its own.
LABELS = (("data", "labels"), ("data", "labelled"), ("teacher", "labelled"), ("teacher", "corrupt_classes"))


@dataclass(frozen=True)
class Gain:
    """The differences of the figure `shown` on the same seeds by the paired t-test. What so many seeds do not give is None.

    `p_holm` is by Holm's correction over the `tests` of the family; `smallest` is the gain that so many seeds would have
    shown with a power of 80 %, at the strictest of Holm's steps.
    """

    shown: Metric
    each: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest: float | None
    tests: int

    @property
    def outcome(self) -> str:
        """What the test says; empty where there was none."""
        if self.p_holm is None or self.low is None:
            return "no difference shown" if self.p == 1 else ""
        if self.p_holm >= 1 - LEVEL:
            return "no difference shown"
        return "shown" if self.mean > 0 else "a loss, shown"

    def words(self, among: str) -> str:
        """The result of the test in full; `among` is what the family's members are."""
        size, seeds = self.shown.gain(self.mean), len(self.each)
        ends = self.low, self.high, self.smallest
        low, high, smallest = (self.shown.difference(end, 1).lstrip("+") for end in ends)
        if seeds == 1:
            return f"{size} with one seed, which says nothing of the methods (seed=0,1,2)"
        if self.low is None:
            equal = f"{self.outcome}: none" if self.outcome else size
            return f"{equal} with each of {seeds} seeds, and without a spread nothing can be tested"
        if self.outcome != "no difference shown":
            return f"{size} (95 % interval {low} to {high}), {self.outcome}"
        corrected = f" among {self.tests} {among} ({corrected_p(self.p, self.p_holm)})"
        known = corrected if self.p < 1 - LEVEL else ""
        return f"{self.outcome}{known}; {seeds} seeds could have shown {smallest} {self.shown.gained}"

    @property
    def short(self) -> str:
        """Its size and what the test says, to stand beside another gain's words."""
        return ", ".join(filter(None, (self.shown.gain(self.mean), self.outcome)))


@dataclass(frozen=True)
class Row:
    """One method on one pair, data set, protocol and budget: all runs that differ in the seed alone.

    Attributes (what so many seeds do not give is None):
        train: the data set's number of training images.
        method: strategy and scheme; `none` is the student alone, whose row has no gain.
        results, seeds, scores: one of each seed; a score is the student's primary figure.
        mean, deviation, low, high: of `scores`, with the 95 % t interval of the mean.
        changed: the further overrides of the newest run, without those that all rows of one `place` share.
        gain: over the results' own baselines, corrected over the rows of the same `family`; None where no result has one.
        equal_compute: likewise over the student alone trained for as much compute as with a live teacher.
        on_samples: what the test samples say of the two models of a single seed.
        apart: what sets it apart from the rows of its place, beside method and student: words by the keys of `FACTS`.
        rank: by mean score within its place.
        front: the costs in which no other distilled student (of a student alone, no other one) beats it there.
    """

    data: str
    train: int | None
    protocol: str
    teacher: str | None
    student: str
    epochs: int | None
    steps: int | None
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
    rank: int = 0
    front: tuple[str, ...] = ()

    @property
    def primary(self) -> Primary:
        """What the scores are."""
        return self.results[0].primary

    @property
    def metric(self) -> Metric:
        """How a score is written."""
        return metric(self.primary.name, self.primary.higher_is_better)

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
        known = (self.train, self.epochs, self.steps)
        return self.data, self.protocol, self.student, *((number is None, number or 0) for number in known)

    @property
    def lesson(self) -> tuple[Any, ...]:
        """The ranking, and the share of the training images whose label the student alone, the baseline, learns from."""
        known = self._configured("data", "labelled")
        return *self.ranking, 1.0 if known is None else known

    @property
    def family(self) -> tuple[Any, ...]:
        """What rows have in common whose tests are corrected together."""
        return *self.ranking, self.teacher or "", self.labels

    @property
    def labels(self) -> str:
        """Which labels student and teacher learned from, where it was not all of them."""
        known = ((role, key, self._configured(role, key)) for role, key in LABELS if role == "data" or not self.alone)
        return ", ".join(f"{role}.{key}={value}" for role, key, value in known if value not in (None, "all", 1.0))

    def _configured(self, role: str, key: str) -> Any:
        return (self.results[0].config.get(role) or {}).get(key)

    @property
    def label(self) -> str:
        """The method and what was changed."""
        return " ".join(filter(None, (self.method, self.changed)))

    @property
    def title(self) -> str:
        """The label, the student, and what else sets it apart: `kd, resnet8, taught by resnet56`."""
        return ", ".join((self.label, self.student, *self.apart.values()))

    @property
    def words(self) -> str:
        """What it shows, at equal steps and at equal compute."""
        if self.alone and self.gain is None:
            return "the student alone"
        if self.gain is None:
            return "the gain is unknown: no student trained alone (baseline=true)"
        said = self.on_samples if self.on_samples and len(self.gain.each) == 1 else self.gain.words("methods")
        return f"{said}; at equal compute {self.equal_compute.short}" if self.equal_compute else said

    @property
    def gap_closed(self) -> float | None:
        """The share of the gap to the teacher that was closed, from the means over the runs with both beside them."""
        known = [result for result in self.results if result.baseline and result.teacher]
        if self.gain is None or not known:
            return None
        roles = ("student", "baseline", "teacher")
        scores = (statistics.fmean(result.score(role) for result in known) for role in roles)
        return gain_and_gap(*scores, self.primary)[1]

    def figure(self, key: str, role: Role = "student") -> float | None:
        """The mean of a figure of one role over the runs that have it."""
        return mean((result.entries[role] for result in self.results if role in result.entries), key)

    @property
    def measured_on(self) -> str:
        """Where the student was timed: latencies compare there alone."""
        return machine(self.results[-1].student.efficiency)


# What may set rows apart that one data set and protocol have in common, in words.
FACTS: Mapping[str, Callable[[Row], str]] = {
    "teacher": lambda row: f"taught by {row.teacher}" if row.teacher and not row.alone else "",
    "epochs": lambda row: "" if row.epochs is None else f"{row.epochs} epochs",
    "steps": lambda row: "" if row.steps is None else f"{row.steps:,} steps",
    "train": lambda row: "" if row.train is None else f"{row.train} training {samples(row.results[0].task)}",
    "labels": lambda row: row.labels or "all labels",
    "code": lambda row: f"code {code}" if (code := row.results[0].versions.get("code")) else "",
}


def mean(entries: Iterable[Entry], key: str) -> float | None:
    """The mean of a figure over the entries that have it; None where none has."""
    known = [figure for entry in entries if (figure := entry.figure(key)) is not None]
    return statistics.fmean(known) if known else None


def gains(differences: Sequence[Sequence[float]], shown: Metric) -> list[Gain | None]:
    """One family's gains in the figure `shown`; None where there is no difference to test."""
    tests = [paired_test(each) if each else None for each in differences]
    adjusted = holm([test and test.p for test in tests])
    count = sum(p is not None for p in adjusted)
    level = 1 - (1 - LEVEL) / max(count, 1)  # at which one of so many tests is shown whatever the others say
    found: list[Gain | None] = []
    for each, test, p_holm in zip(differences, tests, adjusted, strict=True):
        least = test and smallest_gain(test.deviation, len(each), level)
        found.append(test and Gain(shown, tuple(each), test.mean, test.low, test.high, test.p, p_holm, least, count))
    return found


def on_samples(tests: Sequence[Paired | None]) -> list[str | None]:
    """What the test samples say of two trained models each, by Holm's correction over all of these pairs."""
    adjusted = holm([test and test.p for test in tests])
    count = sum(p is not None for p in adjusted)

    def corrected(test: Paired, p_holm: float | None) -> str | None:
        if not test.words or p_holm is None or count < 2 or test.p >= 1 - LEVEL:
            return test.words
        if p_holm < 1 - LEVEL:
            return f"{test.words}; p = {p_holm:.2g} by Holm's correction over {count} tests"
        return f"no difference shown among {count} tests ({corrected_p(test.p, p_holm)}); uncorrected: {test.words}"

    return [test and corrected(test, p_holm) for test, p_holm in zip(tests, adjusted, strict=True)]


def corrected_p(p: float, p_holm: float) -> str:
    """Both p in words."""
    return f"p = {p:.2g} alone, {p_holm:.2g} by Holm's correction"
