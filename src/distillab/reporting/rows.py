"""A row of every comparison: one method on one student over its runs, beside the same student trained alone.

A `Result` has up to three trained students: its own, the student alone of as many steps, and the student alone of the same
whole cost. Each becomes a row, so that no page can forget what training longer brings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, NamedTuple

from distillab.core.result import Result
from distillab.core.result_parts import Entry, Primary
from distillab.core.run_identity import config_hash, population, population_words, varied, without
from distillab.evaluation.families import Finding
from distillab.evaluation.payback import machine
from distillab.evaluation.statistics import Interval, mean_interval
from distillab.reporting.looks import ALONE, LONGER
from distillab.reporting.metric_table import Metric, metric, samples

Kind = Literal["distilled", "alone", "longer"]

# What changes nothing that a row compares: with every value the same weights come out; and what a student alone has not.
NOT_THE_METHOD = ("baseline", "equal_compute", "cache.mode")
NOT_ALONE = ("strategy", "teacher", "scheme", "cache", "experiment")
# Words of a command that columns tell, by key, and those that change no figure, by their group.
TOLD = (
    "strategy",
    "student",
    "teacher",
    "data",
    "protocol",
    "scheme",
    "recipe.epochs",
    "recipe.steps",
    "data.samples",
    "seed",
    "vary",
)
UNTOLD = (
    "name",
    "baseline",
    "rerun",
    "logger",
    "paths",
    "launcher",
    "trainer",
    "sweep",
    "hydra",
    "roi",
    "equal_compute",
)
# Which labels student and teacher know: a column of its own.
LABELS = (("data", "labels"), ("data", "labelled"), ("teacher", "labelled"), ("teacher", "corrupt_classes"))


class Place(NamedTuple):
    """What the rows of one table have in common; only these are ranked and tested together."""

    data: str
    protocol: str
    epochs: int | None
    steps: int | None  # where the recipe counts these
    train: int | None
    labels: str  # those that the student knows, where not all; empty else
    population: tuple[str, ...] = ("init",)  # what its runs draw anew, by the names of `vary`

    def words(self, sample: str = "images") -> str:
        """The title of the table."""
        known = [self.data, f"protocol {self.protocol}"]
        known += [f"{self.epochs:,} epoch{'s' * (self.epochs != 1)}"] if self.epochs is not None else []
        known += [f"{self.steps:,} steps"] if self.steps is not None else []
        known += [f"{self.train:,} training {sample}"] if self.train is not None else []
        new = population_words(self.population) if self.population != ("init",) else ""
        return ", ".join([*known, *filter(None, [self.labels, new])])


@dataclass(frozen=True)
class Row:
    """One method on one student: all runs that differ in nothing but the seeds that were varied.

    Attributes:
        results, seeds, scores: one of each run; a score is the primary figure on test.
        validations: likewise on validation, by whose mean rows are ranked; empty where there is none.
        interval: of the scores: mean, standard deviation over runs, 95 % t interval of the mean.
        changed: the overrides that not all rows of the table share.
        gain: over the same student, seeds and schedule alone; `at_cost`: over the student alone trained for the same
            whole cost. None where there is none, or nothing to compare with.
        rank: by validation, among the rows of its table that have equal seeds; None for others.
        front: the costs in which no other network of the table is both cheaper and better.
    """

    place: Place
    kind: Kind
    method: str
    student: str
    teacher: str | None
    results: tuple[Result, ...] = field(repr=False, compare=False)
    seeds: tuple[int | None, ...]
    scores: tuple[float, ...]
    validations: tuple[float, ...]
    interval: Interval
    changed: str = ""
    code: str = ""
    gain: Finding | None = None
    at_cost: Finding | None = None
    rank: int | None = None
    front: tuple[str, ...] = ()

    def entry(self, result: Result) -> Entry:
        """Its network in one of its results: a student alone may be the run's own, or the baseline of another."""
        return result.student if self.kind == "distilled" or result.alone else result.baseline

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
        """Those that it was trained."""
        longer = self.results[0].longer
        return longer.epochs if self.kind == "longer" and longer else self.place.epochs

    @property
    def label(self) -> str:
        """The method, and what was changed: it names a row among those of one student."""
        longer = f"{LONGER} ({self.epochs:,} epochs)" if self.kind == "longer" else ""
        name = self.method if self.kind == "distilled" else longer or ALONE
        return " ".join(filter(None, (name, self.changed, self.code and f"code {self.code}")))

    @property
    def series(self) -> str:
        """The name under which charts draw it."""
        return self.method if self.kind == "distilled" else {"alone": ALONE, "longer": LONGER}[self.kind]

    @property
    def title(self) -> str:
        """The label, the student and the teacher: `kd, resnet8, taught by resnet56`."""
        return ", ".join(filter(None, (self.label, self.student, self.teacher and f"taught by {self.teacher}")))

    @property
    def charged(self) -> str:
        """Whose cost its gain at the same whole cost is: that of a `live` teacher where one of its runs had it, or `cached`."""
        known = [one for result in self.results if (one := result.cost and result.cost.equal_compute)]
        cached = known and all(one.used == "cached" and one.gain_warm_cache is not None for one in known)
        return "cached" if cached else "live"

    @property
    def labels(self) -> str:
        """Which labels student and teacher learned from, where it was not all of them."""
        return _labels(self.results[0], LABELS if self.kind == "distilled" else LABELS[:2])

    @property
    def gap_closed(self) -> float | None:
        """The share of the gap to the teacher that was closed; None where the gap's interval does not exclude zero."""
        if self.kind != "distilled" or not all(result.baseline and result.teacher for result in self.results):
            return None
        gaps = [self.primary.gain(result.score("teacher"), result.score("baseline")) for result in self.results]
        gap, one = mean_interval(gaps), self.results[0].gap
        low = gap.low if len(gaps) > 1 else one and one.low
        gained = fmean(self.primary.gain(result.primary.value, result.score("baseline")) for result in self.results)
        return gained / gap.mean if gap.mean > 0 and (low is None or low > 0) else None

    def figure(self, key: str) -> float | None:
        """The mean of a figure of its network over the runs that have it."""
        if (
            self.kind == "longer" and key != "epochs"
        ):  # the same network as the student alone, of which it has the costs
            key = key if key in COSTS else ""
        entries = map(self.entry, self.results)
        known = [figure for entry in entries if key and (figure := entry.figure(key)) is not None]
        return fmean(known) if known else None

    @property
    def measured_on(self) -> str:
        """Where the student was timed: latencies compare there alone."""
        return machine(self.entry(self.results[-1]).efficiency)


COSTS = (
    "parameters",
    "multiply_adds",
    "latency_ms",
    "latency_batch_ms",
    "throughput",
    "size_bytes",
    "peak_memory_bytes",
)


def rows_of(results: Sequence[Result]) -> list[Row]:
    """One row for each student, method and setting, without what the statistics add; tables together, students together.

    Of two runs of one row and seed counts the newest. A student alone that was trained for itself and one that was trained
    as a baseline are the same row where their configs are.
    """
    runs: dict[tuple[Any, ...], dict[int | None, Result]] = {}
    for result in sorted(results, key=lambda one: (one.baseline is not None, one.longer is not None, one.created)):
        for identity in _identities(result):
            runs.setdefault(identity, {})[result.seed] = result
    made = [_row(identity, by_seed) for identity, by_seed in runs.items()]
    tables: dict[Place, list[Row]] = {}
    for row in sorted(made, key=lambda row: (*map(str, row.place), row.student)):
        tables.setdefault(row.place, []).append(row)
    return [row for members in tables.values() for row in _told_apart(members)]


def _identities(result: Result) -> list[tuple[Any, ...]]:
    """Place, kind, method, student, teacher, config and code of each row that a result belongs to."""
    varying = (*NOT_THE_METHOD, "seed", *varied(result))
    # Not by its teacher: the student alone has none, and is of the same table.
    drawn = population(result.config)
    recipe = result.config.get("recipe") or {}
    place = Place(
        result.data.name,
        result.protocol,
        recipe.get("epochs", result.student.training.epochs),
        recipe.get("steps"),
        result.data.train if "split" not in drawn else (result.config.get("data") or {}).get("samples"),
        _labels(result, LABELS[:2]),
        drawn,
    )
    rest, code = without(result.config, varying), result.versions.get("code") or ""
    # A result without a config is known by what its command changed.
    alone = config_hash(kept) if (kept := without(rest, NOT_ALONE)) else ""
    student = result.student.name
    reference = (place, "alone", "none", student, None, alone, "")
    if result.alone:
        return [(*reference[:-1], code)]
    taught = result.teacher and result.teacher.name
    known = config_hash(rest) if rest else " ".join(_changed(result))
    found = [(place, "distilled", result.method, student, taught, known, code)]
    if result.baseline:
        found.append(reference)
    if result.longer and result.primary.name in result.longer.metrics:
        found.append((place, "longer", "none", student, None, (alone, result.longer.epochs), ""))
    return found


def _row(identity: tuple[Any, ...], by_seed: dict[int | None, Result]) -> Row:
    place, kind, method, student, teacher, _, code = identity
    seeds = tuple(sorted(by_seed, key=lambda seed: (seed is None, seed)))
    results = tuple(by_seed[seed] for seed in seeds)
    name = results[0].primary.name
    row = Row(place, kind, method, student, teacher, results, seeds, (), (), mean_interval([0.0]), code=code)
    if kind == "longer":
        scores, validated = [result.longer.metrics[name] for result in results], [None]
    else:
        entries = [row.entry(result) for result in results]
        scores = [entry.metrics[name] for entry in entries]
        validated = [entry.validation.get(name) for entry in entries]
    validations = () if None in validated else tuple(validated)
    return replace(row, scores=tuple(scores), validations=validations, interval=mean_interval(scores))


def _labels(result: Result, keys: Iterable[tuple[str, str]]) -> str:
    known = ((role, key, (result.config.get(role) or {}).get(key)) for role, key in keys)
    return ", ".join(f"{role}.{key}={value}" for role, key, value in known if value not in (None, "all", 1.0))


def _changed(result: Result) -> list[str]:
    """The overrides that no column tells, in a fixed order."""

    def key(word: str) -> str:
        return word.lstrip("+~").partition("=")[0].partition("@")[0]

    labels = [f"{role}.{name}" for role, name in LABELS]
    told = (word for word in result.overrides if key(word) not in (*TOLD, *labels))
    return sorted(word for word in told if key(word).partition(".")[0].partition("/")[0] not in UNTOLD)


def _told_apart(rows: list[Row]) -> list[Row]:
    """The rows of one table with what sets them apart: overrides that not all of them share, and code of the person's."""
    told = {id(row): _changed(max(row.results, key=lambda result: result.created)) for row in rows}
    taught = [row for row in rows if row.kind == "distilled"] or rows
    shared = set.intersection(*(set(told[id(row)]) for row in taught)) if len(taught) > 1 else set()
    alike, names = len({row.code for row in taught}) < 2, [(row.kind, row.student) for row in rows]

    def apart(row: Row) -> Row:
        # A student alone needs no words but where there are several.
        unique = row.kind != "distilled" and names.count((row.kind, row.student)) == 1
        words = "" if unique else " ".join(word for word in told[id(row)] if word not in shared)
        return replace(row, changed=words, code="" if alike else row.code)

    return [apart(row) for row in rows]


def several(rows: Sequence[Row]) -> str:
    """What the samples of these rows are called, in the plural."""
    tasks = {result.task for row in rows for result in row.results}
    return samples(tasks.pop()) if len(tasks) == 1 else "samples"
