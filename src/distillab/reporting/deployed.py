"""The report's table of what each network costs to deploy, beside its teacher."""

from __future__ import annotations

from typing import Any

from distillab.evaluation.cost_words import machine
from distillab.evaluation.ratios import in_words, ratios
from distillab.reporting.groups import Group, by_ranking
from distillab.reporting.parts import Section, section, table, view
from distillab.reporting.table import count, milliseconds
from distillab.reporting.timings import timed

# The key of a role's entry → heading and form for a person.
FIGURES = {
    "parameters": ("parameters", count),
    "multiply_adds": ("multiply-adds", count),
    "latency_ms": ("one image, ms", milliseconds),
    "latency_p95_ms": ("its 95th percentile", milliseconds),
    "latency_batch_ms": ("batch of 64, ms", milliseconds),
    "latency_batch_p95_ms": ("its 95th percentile", milliseconds),
    "throughput": ("images per second", count),
    "peak_memory_bytes": ("peak memory, bytes", count),
    "size_bytes": ("size, bytes", count),
}


def deployed(groups: list[Group]) -> Section:
    """Size, latency, throughput and memory of every network, and the students' against each of their teachers."""
    views = []
    for ranking, members in by_ranking(groups).items():
        teachers: dict[Any, list[Any]] = {}
        students: dict[Any, list[Any]] = {}
        for result in (result for group in members for result in group.row.results):
            teacher, student = result.get("teacher"), result["student"]
            if teacher and machine(teacher):
                teachers.setdefault(timed(teacher), _row(teacher, "teacher"))
            if machine(student):
                pair = (timed(student), timed(teacher or {}))
                students.setdefault(pair, _row(student, "student", teacher))
        taught = {student for student, teacher in students if any(teacher)}
        rows = [row for (student, teacher), row in students.items() if any(teacher) or student not in taught]
        if rows := [*teachers.values(), *rows]:
            headings = (
                "network",
                "as",
                *(heading for heading, _ in FIGURES.values()),
                "measured on",
                "against its teacher",
            )
            views.append(view([ranking], tables=[table(headings, rows)]))
    about = (
        "Medians over all runs that measured the same network on the same machine; a batch has 64 images. What ships "
        "with a student, as a projector does, counts as part of it."
    )
    return section("deployed", "Size and speed", about, ("data",), views)


def _row(entry: dict[str, Any], role: str, teacher: dict[str, Any] | None = None) -> list[Any]:
    figures = [[form(entry.get(key)), entry.get(key)] for key, (_, form) in FIGURES.items()]
    against = f"{teacher['name']}: {in_words(ratios(teacher, entry))}" if teacher else ""
    return [entry["name"], role, *figures, machine(entry), against]
