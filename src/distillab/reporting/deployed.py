"""The report's table of what each network costs to deploy, beside its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillab.evaluation.cost_words import machine
from distillab.evaluation.ratios import in_words, ratios
from distillab.reporting.groups import Group, by_ranking
from distillab.reporting.metric_table import DEPLOYED, METRICS
from distillab.reporting.parts import Section, section, table, view
from distillab.reporting.timings import timed

if TYPE_CHECKING:
    from distillab.core.result_parts import Entry


def deployed(groups: list[Group]) -> Section:
    """Size, latency, throughput and memory of every network, and the students' against each of their teachers."""
    views = []
    headings = ("network", "as", *(METRICS[key].heading for key in DEPLOYED), "measured on", "against its teacher")
    for ranking, members in by_ranking(groups).items():
        teachers: dict[Any, list[Any]] = {}
        students: dict[Any, list[Any]] = {}
        for result in (result for group in members for result in group.row.results):
            teacher, student = result.teacher, result.student
            if teacher and machine(teacher.efficiency):
                teachers.setdefault(timed(teacher), _row(teacher, "teacher"))
            if machine(student.efficiency):
                pair = (timed(student), teacher and timed(teacher))
                students.setdefault(pair, _row(student, "student", teacher))
        taught = {student for student, teacher in students if teacher}
        rows = [row for (student, teacher), row in students.items() if teacher or student not in taught]
        if rows := [*teachers.values(), *rows]:
            views.append(view([ranking], tables=[table(headings, rows)]))
    about = (
        "Medians over all runs that measured the same network on the same machine: the latency of one image, and of a "
        "batch, which has 64 images. What ships with a student, as a projector does, counts as part of it."
    )
    return section("deployed", "Size and speed", about, ("data",), views)


def _row(entry: Entry, role: str, teacher: Entry | None = None) -> list[Any]:
    figures = [[METRICS[key].form(entry.figure(key)), entry.figure(key)] for key in DEPLOYED]
    against = f"{teacher.name}: {in_words(ratios(teacher.efficiency, entry.efficiency))}" if teacher else ""
    return [entry.name, role, *figures, machine(entry.efficiency), against]
