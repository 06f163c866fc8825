"""The report's sections of networks and runs: how they answer, what they cost to deploy, where the numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product
from typing import Any

from distillab.core.result_parts import Entry
from distillab.evaluation.cost_words import in_words, machine, ratios
from distillab.reporting.groups import Group, by_ranking, mean, timed
from distillab.reporting.metric_table import AGAINST_TEACHER, DEPLOYED, METRICS, NOTHING, ON_TEST
from distillab.reporting.tables import Section, View, section, table, view

ROLES = {"teacher": "teacher", "baseline": "student alone", "student": "student"}


def by_place(
    groups: list[Group], headings: Sequence[str], rows_of: Callable[[list[Group]], Collection[list[Any]]]
) -> list[View]:
    """One table for each data set and protocol that has rows."""
    made = ((place, rows_of(members)) for place, members in by_ranking(groups).items())
    return [view([place], tables=[table(headings, rows)]) for place, rows in made if rows]


def agreement(groups: list[Group]) -> Section:
    """Calibration of every role, and how far the students follow their teacher."""
    keys = (*ON_TEST, *AGAINST_TEACHER)

    def rows_of(members: list[Group]) -> Collection[list[Any]]:
        rows = {}
        for group, (role, named) in product(members, ROLES.items()):
            entries = [result.entries[role] for result in group.row.results if role in result.entries]
            if any("calibration_error" in entry.metrics for entry in entries):
                apart = [fact for key, fact in group.row.apart.items() if role == "baseline" and key != "teacher"]
                name = group.label if role == "student" else ", ".join((named, entries[0].name, *apart))
                cells = [_figure(key, mean(entries, key)) for key in keys]
                rows.setdefault((name, str(cells)), [name, *cells])
        return rows.values()

    about = (
        "Means over seeds. A teacher's error counts as repeated where the student gives the same wrong answer; by chance "
        "is the share that its own habits of confusion would give without following the teacher."
    )
    views = by_place(groups, ["model", *(METRICS[key].heading for key in keys)], rows_of)
    return section("judgement", "Calibration and agreement", about, ("data",), views)


def deployed(groups: list[Group]) -> Section:
    """Size, latency, throughput and memory of every network, and the students' against each of their teachers."""
    headings = ("network", "as", *(METRICS[key].heading for key in DEPLOYED), "measured on", "against its teacher")
    about = (
        "Medians over all runs that measured the same network on the same machine: the latency of one image, and of a "
        "batch, which has 64 images. What ships with a student, as a projector does, counts as part of it."
    )
    return section("deployed", "Size and speed", about, ("data",), by_place(groups, headings, _deployed_rows))


def _deployed_rows(groups: list[Group]) -> list[list[Any]]:
    teachers: dict[Any, list[Any]] = {}
    students: dict[Any, list[Any]] = {}
    for result in (result for group in groups for result in group.row.results):
        teacher, student = result.teacher, result.student
        if teacher and machine(teacher.efficiency):
            teachers.setdefault(timed(teacher), _row(teacher, "teacher"))
        if machine(student.efficiency):
            pair = (timed(student), teacher and timed(teacher))
            students.setdefault(pair, _row(student, "student", teacher))
    taught = {student for student, teacher in students if teacher}
    rows = [row for (student, teacher), row in students.items() if teacher or student not in taught]
    return [*teachers.values(), *rows]


def _figure(key: str, value: float | None) -> list[Any]:
    return [METRICS[key].form(value), value]


def _row(entry: Entry, role: str, teacher: Entry | None = None) -> list[Any]:
    figures = [_figure(key, entry.figure(key)) for key in DEPLOYED]
    against = f"{teacher.name}: {in_words(ratios(teacher.efficiency, entry.efficiency))}" if teacher else ""
    return [entry.name, role, *figures, machine(entry.efficiency), against]


def provenance(groups: list[Group]) -> Section:
    """For each run where it came from and how to make it again; below, in what the configs differ and what they share."""
    results = [result for group in groups for result in group.row.results]
    packages = list(dict.fromkeys(name for result in results for name in result.versions))
    headings = ["run", "method", "student", "seeds", "made", "command to make it again", *packages]
    rows = [
        [
            f"{result.name}/{result.config_hash}",
            result.method,
            result.student.name,
            ", ".join(f"{name} {value}" for name, value in result.seeds.items() if value is not None),
            result.created[:16].replace("T", " "),
            result.repeating_command,
            *(str(result.versions.get(name) or NOTHING) for name in packages),
        ]
        for result in results
    ]
    shown = [table(headings, rows)]
    configs = [_flat(result.config) for result in results]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]
    if differing:
        values = ([str(config.get(key, NOTHING)) for key in differing] for config in configs)
        own = [[row[0], *each] for row, each in zip(rows, values, strict=True)]
        shown.append(table(["run", *differing], own))
    if common := [[key, str(configs[0].get(key, NOTHING))] for key in keys if key not in differing]:
        shown.append(table(("setting of all runs", "value"), common))
    about = "Below the runs, those values of their configs that are not the same in all of them; then those that are."
    return section("provenance", "Where the numbers come from", about, (), [view(tables=shown)])


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
