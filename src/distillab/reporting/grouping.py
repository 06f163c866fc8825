"""Results as rows: which runs are repeats of one another, and what sets a row apart from the others of its table."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from distillab.core.result import Result
from distillab.core.run_identity import config_hash, population, varied, without
from distillab.reporting.place import LABELS, Place, labels_of
from distillab.reporting.rows import Kind, Row, by_multiply_adds

# What changes nothing that a row compares: with every value the same weights come out; and what a student alone has not.
NOT_THE_METHOD = ("baseline", "equal_compute", "cache.mode")
NOT_ALONE = ("strategy", "teacher", "scheme", "cache", "experiment")
NOT_ALONE += ("data.on_policy", "data.prompt", "data.teacher_tokenizer")
ALIKE = 0.005  # by which one training may differ between two machines, a share of one or of the figure
# Words of a command that columns tell, by key, and those that change no figure, by their group.
TOLD = ("strategy", "student", "teacher", "data", "protocol", "scheme", "recipe.epochs", "recipe.steps", "data.samples",
        "seed", "vary")  # fmt: skip
UNTOLD = ("name", "baseline", "rerun", "logger", "paths", "launcher", "trainer", "sweep", "hydra", "roi", "export",
          "push_to_hub", "license", "equal_compute", "quiet", "doctor")  # fmt: skip


def rows_of(results: Sequence[Result]) -> list[Row]:
    """One row for each student, method and setting, without what the statistics add; tables together, students together.

    Of two runs of one row and seed counts the one that says more, which of costs is the one charged by seconds, else the
    newest. How a run is charged is no part of its row, as the same network comes out. A student alone that was trained for
    itself and one that was trained as a baseline are the same row where their configs are.
    """
    runs: dict[Identity, dict[int | None, list[Result]]] = {}
    for result in sorted(results, key=_tells):
        for identity in _identities(result):
            runs.setdefault(identity, {}).setdefault(result.seed, []).append(result)
    made = [_row(identity, by_seed) for identity, by_seed in runs.items()]
    tables: dict[Place, list[Row]] = {}
    for row in sorted(made, key=lambda row: (*map(str, row.place), row.student)):
        tables.setdefault(row.place, []).append(row)
    return [row for members in tables.values() for row in _told_apart(members)]


def _tells(result: Result) -> tuple[Any, ...]:
    """How much a result says, and when it was made, in the order in which a later one replaces an earlier one."""
    costs = result.longer is not None
    return result.baseline is not None, costs, costs and not by_multiply_adds(result), result.created


class Identity(NamedTuple):
    """What the runs of one row share, whatever their seeds."""

    place: Place
    kind: Kind
    method: str
    student: str
    teacher: str | None
    config: Any  # its hash; of a student trained longer with that length
    code: str
    baseline_config: str


def _identities(result: Result) -> list[Identity]:
    """Each row that a result belongs to."""
    varying = (*NOT_THE_METHOD, *varied(result))
    # Not by its teacher: the student alone has none, and is of the same table.
    drawn = population(result.config)
    recipe = result.config.get("recipe") or {}
    place = Place(
        result.data.name,
        result.protocol,
        recipe.get("epochs", result.student.training.epochs),
        recipe.get("steps"),
        result.data.train if "split" not in drawn else (result.config.get("data") or {}).get("samples"),
        labels_of(result, LABELS[:2]),
        drawn,
        result.primary.name,
    )
    rest, code = without(result.config, varying), result.versions.get("code") or ""
    # A result without a config is known by what its command changed.
    baseline = config_hash(kept) if (kept := without(rest, NOT_ALONE)) else ""
    student, taught = result.student.name, result.teacher and result.teacher.name
    alone = Identity(place, "alone", "none", student, None, baseline, "", baseline)
    if result.alone:
        return [alone._replace(code=code)]
    known = config_hash(rest) if rest else " ".join(_changed(result))
    found = [Identity(place, "distilled", result.method, student, taught, known, code, baseline)]
    if result.baseline:
        found.append(alone)
    if result.random:
        found.append(alone._replace(kind="random"))
    if (longer := result.longer) and result.primary.name in longer.metrics:
        found.append(alone._replace(kind="longer", config=(baseline, longer.steps, longer.epochs)))
    return found


def _row(identity: Identity, by_seed: dict[int | None, list[Result]]) -> Row:
    runs = sorted(by_seed.items(), key=lambda run: (run[0] is None, run[0]))
    known = {key: value for key, value in identity._asdict().items() if key != "config"}
    row = Row(**known, results=tuple(each[-1] for _, each in runs))
    return replace(row, repeats=tuple(_repeats(row, runs))) if row.kind == "alone" else row


def _repeats(
    row: Row, runs: Sequence[tuple[int | None, list[Result]]]
) -> Iterator[tuple[int | None, tuple[float, ...]]]:
    """The seeds whose runs differ by more than one machine does from another, with the least and the largest score."""
    for seed, each in runs:
        scores = sorted(row.entry(result).metrics[row.primary.name] for result in each)
        if scores[-1] - scores[0] > ALIKE * (1 if row.metric.scale == 100 else abs(scores[-1])):
            yield seed, (scores[0], scores[-1])


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
    shared = set.intersection(*(set(told[id(row)]) for row in taught))
    if len(taught) == 1:  # there is nothing to tell it from: what is no part of its method goes without saying
        shared = {word for word in shared if not word.lstrip("+~").startswith(("strategy.", "scheme."))}
    alike = len({row.code for row in taught}) < 2

    def apart(row: Row) -> Row:
        same = [one for one in rows if (one.kind, one.student, one.method) == (row.kind, row.student, row.method)]
        several = len(same) > 1
        # A student alone needs no words but where there are several.
        words = [word for word in told[id(row)] if word not in shared] if several or row.kind == "distilled" else []
        if row.kind != "distilled":
            words = [word for word in words if not word.lstrip("+~").startswith(tuple(f"{key}." for key in NOT_ALONE))]
        if len({one.teacher for one in same}) > 1:
            words = [f"teacher={row.teacher}", *words]
        short = (word.removeprefix("strategy.").removeprefix(f"{row.method}.") for word in words)
        return replace(row, changed=" ".join(short), code="" if alike else row.code, settings=several)

    return [apart(row) for row in rows]
