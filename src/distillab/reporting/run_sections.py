"""The report's sections of networks and runs: how they answer, what they cost to deploy, where the numbers come from."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product
from typing import Any

from distillab.core.result_parts import Entry
from distillab.evaluation.cost import in_words, ratios
from distillab.evaluation.payback import machine
from distillab.reporting.metric_table import (
    AGAINST_TEACHER,
    DEPLOYED,
    NOTHING,
    ON_TEST,
    SAMPLES,
    heading,
    one_sample,
    samples,
)
from distillab.reporting.ranking import by_place, figure, timed
from distillab.reporting.rows import Row, mean
from distillab.reporting.tables import Section, View, section, table, text, view

ROLES = {"teacher": "teacher", "baseline": "student alone", "student": "student"}


def views_by_place(
    rows: list[Row], headings: Sequence[str], lines_of: Callable[[list[Row]], Collection[list[Any]]]
) -> list[View]:
    """One table for each data set and protocol that has lines."""
    made = ((place, lines_of(members)) for place, members in by_place(rows).items())
    return [view([place], tables=[table(headings, lines)]) for place, lines in made if lines]


def one_task(rows: list[Row]) -> str:
    """The task of all runs; empty where there are several."""
    tasks = {result.task for row in rows for result in row.results}
    return tasks.pop() if len(tasks) == 1 else ""


def agreement(rows: list[Row]) -> Section:
    """Calibration of every role, and how far the students follow their teacher."""
    entries = [entry for row in rows for result in row.results for entry in result.entries.values()]
    task, keys = one_task(rows), (*ON_TEST, *AGAINST_TEACHER)
    own = keys if task in SAMPLES else ("perplexity",)  # an image has no perplexity, and a text no classes
    keys = [key for key in keys if key not in own or any(entry.figure(key) is not None for entry in entries)]

    def lines_of(members: list[Row]) -> Collection[list[Any]]:
        lines = {}
        for row, (role, named) in product(members, ROLES.items()):
            entries = [result.entries[role] for result in row.results if role in result.entries]
            if any("calibration_error" in entry.metrics for entry in entries):
                apart = [fact for key, fact in row.apart.items() if role == "baseline" and key != "teacher"]
                name = row.title if role == "student" else ", ".join((named, entries[0].name, *apart))
                cells = [figure(key, mean(entries, key)) for key in keys]
                lines.setdefault((name, str(cells)), [name, *cells])
        return lines.values()

    about = (
        "Means over seeds. A teacher's error counts as repeated where the student gives the same wrong answer; by chance "
        "is the share that its own habits of confusion would give without following the teacher."
    )
    views = views_by_place(rows, ["model", *(heading(key, task) for key in keys)], lines_of)
    return section("judgement", "Calibration and agreement", about, choices=["data"], views=views)


def deployed(rows: list[Row]) -> Section:
    """Size, latency, throughput and memory of every network, and the students' against each of their teachers."""
    task = one_task(rows)
    headings = ("network", "as", *(heading(key, task) for key in DEPLOYED), "measured on", "against its teacher")
    about = (
        f"Medians over all runs that measured the same network on the same machine: the latency of one {one_sample(task)}, "
        f"and of a batch, which has 64 {samples(task)}. What ships with a student, as a projector does, counts as part of it."
    )
    views = views_by_place(rows, headings, _deployed_lines)
    return section("deployed", "Size and speed", about, choices=["data"], views=views)


def _deployed_lines(rows: list[Row]) -> list[list[Any]]:
    teachers: dict[Any, list[Any]] = {}
    students: dict[Any, list[Any]] = {}
    for result in (result for row in rows for result in row.results):
        teacher, student, sample = result.teacher, result.student, one_sample(result.task)
        if teacher and machine(teacher.efficiency):
            teachers.setdefault(timed(teacher), _deployed_line(teacher, "teacher", sample))
        if machine(student.efficiency):
            pair = (timed(student), teacher and timed(teacher))
            students.setdefault(pair, _deployed_line(student, "student", sample, teacher))
    taught = {student for student, teacher in students if teacher}
    lines = [line for (student, teacher), line in students.items() if teacher or student not in taught]
    return [*teachers.values(), *lines]


def _deployed_line(entry: Entry, role: str, sample: str, teacher: Entry | None = None) -> list[Any]:
    figures = [figure(key, entry.figure(key)) for key in DEPLOYED]
    against = f"{teacher.name}: {in_words(ratios(teacher.efficiency, entry.efficiency), sample)}" if teacher else ""
    return [entry.name, role, *figures, machine(entry.efficiency), against]


def provenance(rows: list[Row]) -> Section:
    """For each run where it came from and how to make it again; below, in what the configs differ and what they share."""
    results = [result for row in rows for result in row.results]
    packages = list(dict.fromkeys(name for result in results for name in result.versions))
    runs = [
        {
            "run": f"{result.name}/{result.config_hash}",
            "method": result.method,
            "student": result.student.name,
            "seeds": ", ".join(f"{name} {value}" for name, value in result.seeds.items() if value is not None),
            "made": result.created[:16].replace("T", " "),
            "command to make it again": result.repeating_command,
            **{name: text(result.versions.get(name)) for name in packages},
        }
        for result in results
    ]
    shown = [table(runs[0], (list(run.values()) for run in runs))]
    configs = [_flat(result.config) for result in results]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    values = {key: [str(config.get(key, NOTHING)) for config in configs] for key in keys}
    differing = {key: each for key, each in values.items() if len({str(config.get(key)) for config in configs}) > 1}
    if differing:
        shown.append(table(["run", *differing], zip((run["run"] for run in runs), *differing.values(), strict=True)))
    if common := [[key, each[0]] for key, each in values.items() if key not in differing]:
        shown.append(table(("setting of all runs", "value"), common))
    about = "Below the runs, those values of their configs that are not the same in all of them; then those that are."
    return section("provenance", "Where the numbers come from", about, views=[view(tables=shown)])


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
