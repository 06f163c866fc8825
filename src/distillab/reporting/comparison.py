"""What the rows of a table show: gains with their tests, ranks by validation, and which methods differ from one another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from operator import attrgetter

import numpy as np

from distillab.core.result import Result
from distillab.evaluation.families import Contrast, Finding, family
from distillab.evaluation.kept import differences
from distillab.evaluation.selection import Choice, Figures, chosen
from distillab.reporting.answers import Answers
from distillab.reporting.grouping import rows_of
from distillab.reporting.metric_table import RANKED
from distillab.reporting.place import Place
from distillab.reporting.points import unbeaten
from distillab.reporting.ranking import placed
from distillab.reporting.rows import Row, length_of

MARGIN = 0.01  # accuracies that differ by less are equal for most purposes


def compare(results: Sequence[Result], answers: Answers | None = None) -> list[Row]:
    """The rows of all results with gains, ranks and fronts; tables together, in each the best validation first.

    Everything in one table is one family: the tests of all its methods and students are corrected together.
    """
    found = []
    for members in tables(rows_of(results)).values():
        replayed = {row.teacher for row in members if any(map(_replays, row.results))}
        members = [replace(row, replayed=row.teacher in replayed) for row in members]
        rows = placed(_tested(members, answers or {}))
        rows = [replace(row, front=_front(row, rows)) for row in rows]
        found += sorted(rows, key=lambda row: (row.rank is None, row.rank or 0, -row.sign * row.mean, row.title))
    return found


def _replays(result: Result) -> bool:
    """Whether a run took most of the teacher's answers from the cache."""
    return bool(result.cost and (equal := result.cost.equal_compute) and equal.used == "cached")


def tables(rows: Sequence[Row]) -> dict[Place, list[Row]]:
    """The rows of each table, in their order."""
    return {place: list(members) for place, members in groupby(rows, attrgetter("place"))}


def _tested(rows: list[Row], answers: Answers) -> list[Row]:
    """The rows with their gains over their reference, and over the student alone of the same whole cost."""
    found: dict[int, dict[str, Finding]] = {}
    for name in ("gain", "at_cost"):
        known = [(row, _contrast(row, name, answers)) for row in rows if row.kind == "distilled"]
        known = [(row, contrast) for row, contrast in known if contrast is not None]
        tested = family([contrast for _, contrast in known], _margin(rows))
        for (row, _), finding in zip(known, tested, strict=True):
            found.setdefault(id(row), {})[name] = finding
    return [replace(row, **found.get(id(row), {})) for row in rows]


def _margin(rows: Sequence[Row]) -> float:
    """Accuracies within a point are equal for most purposes, and so are other figures within a hundredth of the best."""
    first = rows[0]
    return MARGIN if first.metric.scale == 100 else MARGIN * abs(max(first.sign * row.mean for row in rows))


def _contrast(row: Row, over: str, answers: Answers) -> Contrast | None:
    """A row beside its reference for a `gain`, or beside the student alone `at_cost`, of the same whole cost; None without any."""
    results = row.results if over == "gain" else row.costing
    known = [(result, gain) for result in results if (gain := _gain(result, row, over)) is not None]
    if not known:
        return None
    own = row.sign * np.array([result.primary.value for result, _ in known])
    samples = None  # of the student trained longer no answers are kept
    if over == "gain":
        kept = [answers.get(result.config_hash, {}) for result, _ in known]
        samples = differences([(one.get("student"), one.get(row.reference)) for one in kept])
    seeds = tuple(result.seed for result, _ in known)
    # Who is compared with students alone of other settings has another reference, and tells nothing of their deviation.
    group = (row.student, row.reference, row.baseline_config)
    return Contrast(own, own - np.array([gain for _, gain in known]), samples, group, seeds)


def _gain(result: Result, row: Row, over: str) -> float | None:
    if over == "gain":
        reference = result.score(result.reference)
        return None if reference is None else result.primary.gain(result.primary.value, reference)
    equal = result.cost and result.cost.equal_compute
    return equal and (equal.gain_warm_cache if row.charged == "cached" else equal.gain_live)


def _front(row: Row, table: Sequence[Row]) -> tuple[str, ...]:
    """The costs in which no other network of the table is at most as dear, at least as good, and not equal.

    Latencies compare on one machine alone, and of a busy one not at all.
    """
    found = []
    for key in RANKED:
        timed = key == "latency_ms"
        if timed and row.busy:
            continue
        alike = [one for one in table if not timed or (one.measured_on == row.measured_on and not one.busy)]
        known = [(cost, one.mean) for one in alike if (cost := one.figure(key)) is not None]
        if (row.figure(key), row.mean) in unbeaten(known, row.sign):
            found.append(key)
    return tuple(found)


@dataclass(frozen=True)
class Verdict:
    """Who ranks first on validation for one student of a table, and what test says of it, corrected for that choice.

    `choice` is None for a single method, and where runs, baselines or validations are missing; `tied` are the methods that
    are exactly as good there as the first one, if this is a method. `left_out` have no rank, as they lack a seed of the
    ranked ones; a student whose methods all lack seeds on which the table ranks is ranked `apart`, on its own. `best` is the
    ranked method that is best, also where the student alone is ahead of it.
    """

    first: Row
    ranked: int
    choice: Choice | None
    tied: tuple[Row, ...] = ()
    left_out: tuple[Row, ...] = ()
    apart: bool = False
    best: Row | None = None

    @property
    def counted(self) -> Row:
        """The first one's runs by which it is ranked, and of which all figures of the verdict but the gain are."""
        return self.first.at(self.first.ranked_on)

    @property
    def longer(self) -> Row | None:
        """The student alone that was trained for what each of these runs costs with a live teacher, where all have one."""
        if self.best is None:
            return None
        runs = self.best.at(self.best.ranked_on)
        name, trained = runs.primary.name, [result.longer for result in runs.results]
        known = all(one and name in one.metrics for one in trained) and len(set(map(length_of, trained))) == 1
        return replace(runs, kind="longer") if known else None


def verdicts(table: Sequence[Row]) -> list[Verdict]:
    """One verdict for each student of a table."""
    found = []
    for student in dict.fromkeys(row.student for row in table):
        members = [row for row in table if row.student == student and row.kind != "longer"]
        methods = [row for row in members if row.kind == "distilled"] or members
        if methods:
            apart = all(row.rank is None for row in methods)
            found.append(_verdict(placed(members) if apart else members, apart))
    return found


def _verdict(members: Sequence[Row], apart: bool) -> Verdict:
    ranked = sorted((row for row in members if row.rank is not None), key=lambda row: row.rank)
    choice = _choice([row.at(row.ranked_on) for row in ranked])
    place = choice.place if choice else None
    # Of equals the student alone is the first: nothing was gained.
    alone = next((row for row in ranked if row.kind != "distilled" and row.rank == ranked[0].rank), ranked[0])
    first = alone if place is None else _candidates(ranked)[place]
    left_out, methods = (
        tuple(row for row in members if row.rank is None),
        [row for row in ranked if row.kind == "distilled"],
    )
    if first.kind != "distilled":
        return Verdict(first, len(ranked), choice, (), left_out, apart, best=next(iter(methods), None))
    tied = tuple(row for row in methods if row is not first and row.rank == first.rank)
    return Verdict(first, len(ranked), choice, tied, left_out, apart, best=first)


def _candidates(ranked: Sequence[Row]) -> list[Row]:
    """All but the student alone; random weights come first, as of equals nothing was gained by a method."""
    return sorted(
        (row for row in ranked if row.kind in ("random", "distilled")), key=lambda row: row.kind == "distilled"
    )


def _choice(ranked: Sequence[Row]) -> Choice | None:
    """The best of these rows, which have equal seeds."""
    taught = _candidates(ranked)
    alone = [row for row in ranked if row.kind == "alone"]
    several = max(len(alone), sum(row.kind == "random" for row in ranked)) > 1
    known = all(result.score(row.reference) is not None for row in taught for result in row.results)
    whole = known and all(row.validations for row in ranked)
    if all(row.kind == "random" for row in taught) or several or not whole or len(taught[-1].seeds) < 2:
        return None
    known = [
        Figures(*(row.sign * np.array(each) for each in (row.scores, row.validations))) for row in (*taught, *alone)
    ]
    return chosen(known[: len(taught)], *known[len(taught) :])


@dataclass(frozen=True)
class Pair:
    """Two methods for one student on the seeds that both have; the finding is of first minus second."""

    first: Row
    second: Row
    seeds: tuple[int | None, ...]
    finding: Finding


def against_each_other(table: Sequence[Row], answers: Answers | None = None) -> list[Pair]:
    """Every two methods of one student in a table, on the seeds that both have; all pairs of the table are one family.

    The better validation comes first. The student alone is among them only where no gain is over it already.
    """
    best = sorted(table, key=lambda row: (row.rank is None, row.rank or 0))
    found = [
        (first, second, common)
        for first, second in combinations([row for row in best if row.kind == "distilled"], 2)
        if first.student == second.student and (common := tuple(seed for seed in first.seeds if seed in second.seeds))
    ]
    contrasts = [_between(first, second, common, answers or {}) for first, second, common in found]
    tested = family(contrasts, _margin(table)) if contrasts else []
    return [Pair(*pair, finding) for pair, finding in zip(found, tested, strict=True)]


def _between(first: Row, second: Row, seeds: Sequence[int | None], answers: Answers) -> Contrast:
    own, other = (dict(zip(row.seeds, row.results, strict=True)) for row in (first, second))
    runs = [(own[seed], other[seed]) for seed in seeds]
    scores = first.sign * np.array([(one.primary.value, two.primary.value) for one, two in runs])
    kept = [[answers.get(each.config_hash, {}).get("student") for each in pair] for pair in runs]
    both = (id(first), id(second))
    return Contrast(scores[:, 0], scores[:, 1], differences(kept), first.student, tuple(seeds), both)
