"""What a person reads at the end of a run: a table, the verdict, the cost, and where things lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillab.core.output import rank_zero_print
from distillab.core.result import REFERENCES, Result
from distillab.core.result_parts import Entry
from distillab.evaluation.payback import machine
from distillab.reporting import doubts
from distillab.reporting.cost_words import cost_line, in_words, ratios
from distillab.reporting.exported import alike
from distillab.reporting.metric_table import METRICS, NOTHING, RANKED, count, many_tested, one_sample, samples
from distillab.reporting.network_words import features_words
from distillab.reporting.rows import length_of
from distillab.reporting.tables import Table, print_table, terminal
from distillab.reporting.words import primary, verdict

UNITS = {"latency_ms": " ms", "size_bytes": "B"}  # the form of a size ends with the unit's prefix


def models_line(student: Any, teacher: Any) -> str:
    """Teacher against student before training: parameters and multiply-adds, in one line."""
    from distillab.evaluation.efficiency import multiply_adds, parameters

    known = {role: model for role, model in (("teacher", teacher), ("student", student)) if model is not None}
    sizes = {role: (parameters(model), multiply_adds(model)) for role, model in known.items()}
    told = "; ".join(
        f"{role} {known[role].info.name}: {count(weights)} parameters, {count(operations)} multiply-adds"
        for role, (weights, operations) in sizes.items()
    )
    if teacher is None:
        return told
    shares = [100 * own / other for own, other in zip(sizes["student"], sizes["teacher"], strict=True)]
    return f"{told} ({shares[0]:.0f} % and {shares[1]:.0f} % of it)"


def show(result: Result, directory: Path) -> None:
    """Ten lines at most; the model card and the report have the rest. The first process alone has a result."""
    table = terminal(final_table(result))
    table.rows[-1 - len(result.exports)].style = "bold"
    print_table(table)
    there = ("student.safetensors", "student", *(file.file for file in result.exports))
    others = "".join(f", {name}{'/' if name == 'student' else ''}" for name in there if (directory / name).exists())
    files = f"{directory}: README.md (the model card), result.json{others}"
    over_all = f"over all runs: {directory.parents[1]}/leaderboard.md; scripts/report.py makes a page"
    lines = (verdict(result), doubts.of_run(result), features_words(result), cost_line(result), f"{files}; {over_all}")
    rank_zero_print("\n".join(filter(None, lines)), result=True)


def final_table(result: Result) -> Table:
    """Teacher, student alone, random weights, student alone for longer, and distilled, one row each, as far as the run had them."""
    rows = []
    for role, entry in result.entries.items():
        longer = result.longer
        if role == "student" and longer and result.primary.name in longer.metrics:
            title = f"student alone, {length_of(longer)}: {entry.name}"
            score, gain = _scores(result, longer.metrics)
            gain = NOTHING if result.head_fitted else gain  # its head was trained, that of the reference fitted
            rows.append([title, score, gain, *(NOTHING for _ in RANKED)])
        labels = {"teacher": "teacher", **REFERENCES, "student": f"student, {result.method}"}
        label = "student alone" if role == "student" and result.alone else labels[role]
        score, gain = _scores(result, entry.metrics)
        steady = all(one.efficiency.steady for one in result.entries.values())
        teacher = None if role == "teacher" else result.teacher
        costs = [_with_share(key, entry.figure(key), teacher, steady) for key in RANKED]
        rows.append([f"{label}: {entry.name}", score, gain if role == "student" else NOTHING, *costs])
    for file in result.exports:
        steady = file.steady and result.teacher is not None and result.teacher.efficiency.steady
        costs = [_with_share(key, getattr(file, key, None), result.teacher, steady) for key in RANKED]
        rows.append([f"{file.file}: {alike(file)} the same answers", *_scores(result, file.metrics), *costs])
    of = many_tested(result.data.test, result.task) if result.data.test else f"test {samples(result.task)}"
    shares = "(…): of the teacher" if result.teacher else ""
    told = (f"{result.data.name}, protocol {result.protocol}, {of}", _machine(result), shares)
    title = " · ".join(filter(None, told))
    headings = ("parameters", "multiply-adds", f"latency, one {one_sample(result.task)}", "size")
    return Table(["model", primary(result).heading, "gain", *headings], rows, title)


def measured_on(result: Result) -> str:
    """Where the latencies were measured, in a sentence; empty where it is not known."""
    return f"Measured on {where}." if (where := _machine(result)) else ""


def _machine(result: Result) -> str:
    where = machine(result.student.efficiency)
    busy = any(not one.efficiency.steady for one in result.entries.values())
    return f"{where}{', busy: no speed is certain' if busy else ''}" if where else ""


def _scores(result: Result, metrics: Mapping[str, float | None]) -> tuple[str, str]:
    """The primary figure among a network's metrics, and its gain over the run's reference."""
    shown, value, over = primary(result), metrics.get(result.primary.name), result.score(result.reference)
    known = value is not None and over is not None
    return shown.form(value), shown.difference(result.primary.gain(value, over) if known else None)


def _with_share(key: str, value: float | None, teacher: Entry | None, steady: bool) -> str:
    """A cost with its share of the teacher's; of a latency only where both timings are `steady`."""
    if value is None:
        return NOTHING
    text = METRICS[key].form(value) + UNITS.get(key, "")
    of_teacher = teacher and (steady or not key.startswith("latency")) and teacher.figure(key)
    if not of_teacher:
        return text
    share = 100 * value / of_teacher
    return f"{text} ({share:.{0 if share >= 9.95 else 1}f} %)"


def savings(result: Result) -> str:
    """What the student takes less than its teacher, in a sentence; empty where there is none."""
    student, teacher = result.student, result.teacher
    found = in_words(ratios(teacher.efficiency, student.efficiency), one_sample(result.task)) if teacher else ""
    return found and f"Against its teacher, {student.name} is or has: {found}."


def scarce_labels(result: Result) -> str:
    """How many labels the student knew, and who answered for the others, in a sentence; empty where it knew all."""
    if result.data.labelled is None:
        return ""
    if result.config["data"].get("labels") == "none":
        return "No label taught the student's features: data.labels=none."
    known = f"Labels were scarce: the student knew {result.data.labelled:,} of {result.data.train:,} training labels"
    if not result.teacher:
        return f"{known}."
    more = result.config["teacher"].get("labelled") == 1 and not result.config["teacher"].get("checkpoint")
    learned = ", which learned from all," if more else ""
    mend = "data.labels=all" if result.config["data"].get("labels") == "teacher" else "data.labelled=1.0"
    return f"{known}, and the teacher{learned} answered for the others; {mend} shows all of them to the student."
