"""A row of every comparison: one method on one pair of networks, over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from distillab.core.result import Result, Role, gain_and_gap
from distillab.core.result_parts import Entry, Primary
from distillab.evaluation.cost_words import machine
from distillab.reporting.gains import Gain
from distillab.reporting.metric_table import Metric, metric

# What a row says in columns of its own.
LABELS = (("data", "labels"), ("data", "labelled"), ("teacher", "labelled"), ("teacher", "corrupt_classes"))


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
        rank: by mean score within its place.
        front: the costs in which no other distilled student (of a student alone, no other one) beats it there.
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
        known = (self.train, self.epochs)
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
    "train": lambda row: "" if row.train is None else f"{row.train} training images",
    "labels": lambda row: row.labels or "all labels",
}


def mean(entries: Iterable[Entry], key: str) -> float | None:
    """The mean of a figure over the entries that have it; None where none has."""
    known = [figure for entry in entries if (figure := entry.figure(key)) is not None]
    return statistics.fmean(known) if known else None
