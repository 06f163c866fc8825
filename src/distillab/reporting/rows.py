"""A row of every comparison: one method on one student over its runs, beside the same student trained alone.

A `Result` has up to four students: its own, the student alone of as many steps, the student alone of the same whole cost,
and, where a head was fitted afterwards, one with random weights. Each becomes a row, so that no page can forget what training
longer brings, or a head.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Literal, Self

from distillab.core.cost_parts import Longer
from distillab.core.result import Result, Role
from distillab.core.result_parts import Entry, Primary
from distillab.evaluation.families import Finding
from distillab.evaluation.payback import machine
from distillab.evaluation.statistics import Interval, mean_interval
from distillab.reporting.looks import ALONE, LONGER, RANDOM
from distillab.reporting.metric_table import DEPLOYED, Metric, counted, metric, samples
from distillab.reporting.place import LABELS, Place, labels_of

Kind = Literal["distilled", "alone", "random", "longer"]

# The names of rows that no method made.
KINDS: dict[Kind, str] = {"alone": ALONE, "random": RANDOM, "longer": LONGER}


@dataclass(frozen=True)
class Row:
    """One method on one student: all runs that differ in nothing but the seeds that were varied.

    Attributes:
        results: one of each run.
        changed: the overrides that not all rows of the table share.
        settings: whether the table has other settings of its method for its student, which charts draw apart.
        baseline_config: the hash of the config of the student alone that it is compared with.
        repeats: of a student alone, the seeds that were trained more than once with other results, and these.
        replayed: whether its teacher's answers were replayed in some run of the table.
        gain: over the `reference` of the same student and seeds; `at_cost`: over the student alone trained for the same
            whole cost. None where there is none, or nothing to compare with.
        rank: by validation, on the seeds `ranked_on` that all ranked rows of its table share; None for others.
        front: the costs in which no other network of the table is both cheaper and better.
    """

    place: Place
    kind: Kind
    method: str
    student: str
    teacher: str | None
    results: tuple[Result, ...] = field(repr=False, compare=False)
    changed: str = ""
    code: str = ""
    settings: bool = False
    baseline_config: str = ""
    repeats: tuple[tuple[int | None, tuple[float, ...]], ...] = ()
    replayed: bool = False
    gain: Finding | None = None
    at_cost: Finding | None = None
    rank: int | None = None
    ranked_on: tuple[int | None, ...] = ()
    front: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """One of each run."""
        return tuple(result.seed for result in self.results)

    def at(self, seeds: Container[int | None]) -> Self:
        """The row of its runs of these seeds alone."""
        return replace(self, results=tuple(result for result in self.results if result.seed in seeds))

    @cached_property
    def scores(self) -> tuple[float, ...]:
        """The primary figure of each run on test."""
        trained = [result.longer if self.kind == "longer" else self.entry(result) for result in self.results]
        return tuple(one.metrics[self.primary.name] for one in trained)

    @property
    def validations(self) -> tuple[float, ...]:
        """Likewise on validation, by whose mean rows are ranked; empty where there is none."""
        known = [self.entry(result).validation.get(self.primary.name) for result in self.results]
        return () if self.kind == "longer" or None in known else tuple(known)

    @cached_property
    def interval(self) -> Interval:
        """Of the scores: mean, standard deviation over runs, 95 % t interval of the mean."""
        return mean_interval(self.scores)

    def entry(self, result: Result) -> Entry:
        """Its network in one of its results: a student alone may be the run's own, or the baseline of another."""
        if self.kind == "random":
            return result.random
        return result.student if self.kind == "distilled" or result.alone else result.baseline

    @property
    def reference(self) -> Role:
        """What its gain is over: the student alone, or `random` weights with a fitted head."""
        return "random" if any(result.head_fitted for result in self.results) else "baseline"

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
    def mean(self) -> float:
        """The mean score."""
        return self.interval.mean

    @property
    def validation(self) -> float | None:
        """The mean on validation; None where there is none."""
        return fmean(self.validations) if self.validations else None

    @property
    def epochs(self) -> int | None:
        """Those that it was trained; None of random weights."""
        if self.kind == "random":
            return None
        longer = self.results[0].longer
        return longer.epochs if self.kind == "longer" and longer else self.place.epochs

    @property
    def trained(self) -> str:
        """How long a student alone was trained for a method's cost: `6 epochs`, or `11 steps`."""
        return length_of(self.results[0].longer)

    @property
    def label(self) -> str:
        """The method, and what was changed: it names a row among those of one student."""
        name = KINDS.get(self.kind, self.method)
        name = f"{name} ({self.trained})" if self.kind == "longer" else name
        return " ".join(filter(None, (name, self.changed, self.code and f"code {self.code}")))

    @property
    def series(self) -> str:
        """The name under which charts draw it."""
        if self.settings and self.kind in ("distilled", "alone"):
            return self.label
        return KINDS.get(self.kind, self.method)

    @property
    def title(self) -> str:
        """The label, the student and the teacher: `kd, resnet8, taught by resnet56`."""
        told = f"teacher={self.teacher}" in self.changed.split()
        return ", ".join(
            filter(None, (self.label, self.student, not told and self.teacher and f"taught by {self.teacher}"))
        )

    @property
    def charged(self) -> Literal["live", "cached"]:
        """Whose cost its gain at the same whole cost is: `cached` where the answers can be replayed, and are in some run of the table.

        The run that fills the cache does so for all others: which one that was makes no method dearer.
        """
        known = [result.cost.equal_compute for result in self.costing]
        cached = self.replayed and known and all(one.gain_warm_cache is not None for one in known)
        return "cached" if cached else "live"

    @property
    def costing(self) -> tuple[Result, ...]:
        """The runs whose gain at the same whole cost counts: those charged by seconds, or by multiply-adds where none is.

        The network is the same; costs of two kinds have no mean.
        """
        known = [result for result in self.results if result.cost and (one := result.cost.equal_compute)
                 and (one.gain_live, one.gain_warm_cache) != (None, None)]  # fmt: skip
        return tuple([result for result in known if not by_multiply_adds(result)] or known)

    @property
    def charged_by(self) -> str:
        """By what these runs were charged, for a sentence: nothing for seconds, which goes without saying."""
        return " by multiply-adds" if any(map(by_multiply_adds, self.costing)) else ""

    @property
    def labels(self) -> str:
        """Which labels student and teacher learned from, where it was not all of them."""
        # A student with a fitted head learns from what that reads.
        of_student = LABELS[1:2] if self.reference == "random" else LABELS[:2]
        return labels_of(self.results[0], LABELS if self.kind == "distilled" else of_student)

    @property
    def gap_closed(self) -> float | None:
        """The share of the gap to the teacher that the gains close; None where the gap's 95 % interval reaches zero."""
        over = self.reference
        if self.kind != "distilled" or any(result.score(over) is None or not result.teacher for result in self.results):
            return None
        if len(self.results) == 1:
            return gap_closed(self.results[0])
        gains, gaps = (
            [self.primary.gain(result.score(role), result.score(over)) for result in self.results]
            for role in ("student", "teacher")
        )
        gap = mean_interval(gaps)
        return mean_interval(gains).mean / gap.mean if gap.low is not None and gap.low > 0 else None

    def figure(self, key: str) -> float | None:
        """The mean of a figure of its network over the runs that have it."""
        if (
            self.kind == "longer" and key not in DEPLOYED
        ):  # it has those of the student alone, which is the same network
            return None
        known = [figure for result in self.results if (figure := self.entry(result).figure(key)) is not None]
        return fmean(known) if known else None

    def features(self, role: str) -> dict[str, float]:
        """What the features of a role's network, or of a `random` student, are worth: the mean of each figure over the runs.

        Empty where labels taught the student.
        """
        of_runs = [result.features for result in self.results if self.kind == "distilled" and result.features]
        known = [dict(roles[role]) for roles in of_runs if role in roles]
        return {key: fmean(one[key] for one in known) for key in known[0]} if known else {}

    @property
    def busy(self) -> bool:
        """Whether its latency is no figure to compare: repeated timings differed by too much, as others used the machine."""
        return not all(self.entry(result).efficiency.steady for result in self.results)

    @property
    def measured_on(self) -> str:
        """Where the student was timed: latencies compare there alone."""
        return machine(self.entry(self.results[-1]).efficiency)


def by_multiply_adds(result: Result) -> bool:
    """Whether a run's cost was charged by arithmetic, and not by seconds."""
    equal, step = result.cost and result.cost.equal_compute, result.longer and result.longer.step
    return "multiply_adds" in (equal and equal.by, step and step.by)


def length_of(longer: Longer) -> str:
    """How long a student alone was trained, in words."""
    return counted(longer.steps, "step") if longer.steps else counted(longer.epochs, "epoch")


def gap_closed(result: Result) -> float | None:
    """The share of the gap to the teacher that one run closed; None where the gap's interval does not exclude zero."""
    return result.gap_closed if result.gap and result.gap.low > 0 else None


def several(rows: Sequence[Row]) -> str:
    """What the samples of these rows are called, in the plural."""
    tasks = {result.task for row in rows for result in row.results}
    return samples(tasks.pop()) if len(tasks) == 1 else "samples"
