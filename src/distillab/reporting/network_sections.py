"""The report's sections of networks and runs: how they answer, what they cost to deploy, where the numbers come from."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distillab.core.exports import ExportedFile
from distillab.core.result import Result
from distillab.core.result_parts import Entry
from distillab.evaluation.payback import machine
from distillab.evaluation.statistics import mean_interval
from distillab.reporting.comparison import tables
from distillab.reporting.cost_words import in_words, ratios
from distillab.reporting.exported import alike
from distillab.reporting.looks import TEACHER
from distillab.reporting.metric_table import (
    AGAINST_TEACHER,
    DEPLOYED,
    FEATURES,
    NOTHING,
    ON_TEST,
    heading,
    one_sample,
    samples,
    signed,
)
from distillab.reporting.rows import Row, several
from distillab.reporting.tables import Cell, Section, Table, View, figure, figures, text
from distillab.reporting.timings import timed


def by_table(rows: list[Row], table_of: Callable[[list[Row]], Table | None]) -> list[View]:
    """One view for each table of rows that has lines."""
    made = ((place.words(several(members)), table_of(members)) for place, members in tables(rows).items())
    return [View([where], tables=[table]) for where, table in made if table is not None and table.rows]


def judgement(rows: list[Row]) -> Section:
    """Calibration of every role, and how far the students follow their teacher."""
    task = _one_task(rows)

    def table(members: list[Row]) -> Table:
        lines = []
        for name, entries in (one for row in members for one in _networks(row)):
            if any("calibration_error" in entry.metrics for entry in entries):
                more = _more(entries)
                cells = {heading(key, task): figure(key, _mean(entries, key)) for key in (*ON_TEST, *AGAINST_TEACHER)}
                lines.append({"network": name, **cells, "of these, by distillation": more})
        return Table.of(_once(lines)).without_empty()

    about = (
        "Means over runs. A teacher's error counts as repeated where the student gives the same wrong answer. Hard samples are "
        "hard for both: what distillation adds is the number beyond that of what its gain is over."
    )
    return Section("judgement", "Calibration and agreement", about, by_table(rows, table), ["table"])


FEATURES_ABOUT = (
    "No label taught the features of these students. The test accuracy of the embeddings of each network, by 20 nearest neighbours and by "
    "a linear probe, both of the same labelled training samples. Means over runs."
)


def features(rows: list[Row]) -> Section:
    """What the features of teacher, student and a student with random weights are worth, where no label taught it."""
    return Section("features", "What the features are worth", FEATURES_ABOUT, by_table(rows, features_table), ["table"])


def features_table(rows: Sequence[Row]) -> Table:
    """One row for each network whose features were judged."""
    lines = []
    for row in rows:
        names = {
            "teacher": f"{TEACHER}, {row.teacher}",
            "student": row.title,
            "random": f"{row.student}, random weights",
        }
        for role, name in names.items():
            if found := row.features(role):
                many = Cell(f"{found['samples']:,.0f}", found["samples"])
                lines.append({"network": name, **figures(FEATURES, found.get), "labelled samples": many})
    return Table.of(_once(lines))


def _more(entries: Sequence[Entry]) -> Cell:
    """The errors that distillation made the student repeat: the mean over runs with its interval, of one run that over test samples."""
    found = [one.excess for entry in entries if (one := entry.against_teacher) and one.excess]
    if not found:
        return Cell(NOTHING)
    if len(found) == 1:
        value, low, high = found[0].value, found[0].low, found[0].high
    else:
        value, _, low, high = mean_interval([one.value for one in found])
    return Cell(f"{signed(value, 0)} ({signed(low, 0)} to {signed(high, 0)})", value)


def _once(lines: Sequence[dict[str, str | Cell]]) -> list[dict[str, str | Cell]]:
    """Rows of a table without those that say the same again: many runs share a teacher."""
    return list({str(line): line for line in lines}.values())


def _networks(row: Row) -> list[tuple[str, list[Entry]]]:
    """The name and the entries of a row's network, a distilled one after its teacher; of the longer one nothing is known."""
    if row.kind == "longer":
        return []
    teachers = [result.teacher for result in row.results if result.teacher] if row.kind == "distilled" else []
    taught = [(f"{TEACHER}, {teachers[0].name}", teachers)] if teachers else []
    return [*taught, (row.title, [row.entry(result) for result in row.results])]


def _one_task(rows: Sequence[Row]) -> str:
    """The task of all runs; empty where there are several."""
    tasks = {result.task for row in rows for result in row.results}
    return tasks.pop() if len(tasks) == 1 else ""


def _mean(entries: Sequence[Entry], key: str) -> float | None:
    known = [figure for entry in entries if (figure := entry.figure(key)) is not None]
    return statistics.fmean(known) if known else None


def deployed(rows: list[Row]) -> Section:
    """Size, latency, throughput and memory of every network, and the students' against each of their teachers."""
    task = _one_task(rows)
    headings = ("network", "as", *(heading(key, task) for key in DEPLOYED), "measured on", "against its teacher")
    about = (
        f"Medians over all runs that measured the same network on the same machine: the latency of one {one_sample(task)}, "
        f"and of a batch, which has 64 {samples(task)}. What ships with a student, as a projector does, counts as part of it."
    )
    views = by_table(rows, lambda members: Table(headings, _deployed_lines(members)).without_empty())
    return Section("deployed", "Size and speed", about, views, ["table"])


def _deployed_lines(rows: Sequence[Row]) -> list[list[Any]]:
    teachers: dict[Any, list[Any]] = {}
    students: dict[Any, list[Any]] = {}
    results = [result for row in rows for result in row.results]
    for result in results:
        teacher, student = result.teacher, result.student
        if teacher and machine(teacher.efficiency):
            teachers.setdefault(timed(teacher), _deployed_line(result, teacher, "teacher"))
        if machine(student.efficiency):
            pair = (timed(student), teacher and timed(teacher))
            students.setdefault(pair, _deployed_line(result, student, "student"))
    taught = {student for student, teacher in students if teacher}
    files = {(f"{one.student.name}, {one.method}", file.file): file for one in results for file in one.exports}
    exported = [_file_line(name, file) for (name, _), file in files.items()]
    networks = [*teachers.values(), *(line for (one, by), line in students.items() if by or one not in taught)]
    return [*networks, *exported]


def _file_line(name: str, file: ExportedFile) -> list[Any]:
    """A student's file: of several runs of one method the last one's."""
    costs = (figure(key, getattr(file, key, None)) for key in DEPLOYED)
    return [f"{name}: {file.file}", "file", *costs, file.runtime, f"the student: {alike(file)} the same answers"]


def _deployed_line(result: Result, entry: Entry, role: str) -> list[Any]:
    teacher, against = result.teacher, ""
    if teacher and role == "student":
        against = f"{teacher.name}: {in_words(ratios(teacher.efficiency, entry.efficiency), one_sample(result.task))}"
    return [
        entry.name,
        role,
        *(figure(key, entry.figure(key)) for key in DEPLOYED),
        machine(entry.efficiency) + ("" if entry.efficiency.steady else ", busy"),
        against,
    ]


def provenance(rows: list[Row]) -> Section:
    """For each run where it came from and how to make it again; below, in what the configs differ and what they share."""
    results = list({result.config_hash: result for row in rows for result in row.results}.values())
    versions = {name: [text(result.versions.get(name)) for result in results]
                for name in dict.fromkeys(name for result in results for name in result.versions)}  # fmt: skip
    same = [f"{name} {each[0]}" for name, each in versions.items() if len(set(each)) == 1]
    runs = [
        {
            "run": f"{result.name}/{result.config_hash}",
            "method": result.method,
            "student": result.student.name,
            "seeds": ", ".join(f"{name} {value}" for name, value in result.seeds.items() if value is not None),
            "made": result.created[:16].replace("T", " "),
            "command to make it again": result.repeating_command,
            **{name: each[place] for name, each in versions.items() if len(set(each)) > 1},
        }
        for place, result in enumerate(results)
    ]
    shown = [Table.of(runs)]
    configs = [_flat(result.config) for result in results]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: [str(config.get(key, NOTHING)) for config in configs] for key in keys}
    differing = {key: each for key, each in values.items() if len(set(each)) > 1}
    if differing:
        lines = zip((run["run"] for run in runs), *differing.values(), strict=True)
        shown.append(Table(["run", *differing], list(lines)))
    if common := [[key, each[0]] for key, each in values.items() if key not in differing]:
        shown.append(Table(("setting of all runs", "value"), common))
    said = [f"Versions of {'all runs' if len(results) > 1 else 'the run'}: {', '.join(same)}."] if same else []
    about = "Below the runs, those values of their configs that are not the same in all of them; then those that are."
    return Section("provenance", "Where the numbers come from", about, [View(text=said, tables=shown)], kept=1)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
