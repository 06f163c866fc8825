"""What a person reads at the end of a run: a table and one honest sentence."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.output import rank_zero_print
from distillab.core.result import Result, Role
from distillab.evaluation.cost import in_words, ratios, words
from distillab.evaluation.payback import machine
from distillab.reporting.metric_table import (
    METRICS,
    NOTHING,
    RANKED,
    SAMPLES,
    Metric,
    count,
    metric,
    one_sample,
    percent,
    samples,
)
from distillab.reporting.tables import print_table, terminal
from distillab.reporting.text_words import sentences

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("gain", "gap closed", "parameters", "multiply-adds", "latency, one {}", "size")
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
    """The table, what it says, and where things are; the first process alone has a result."""
    print_table(final_table(result))
    over_all = f"over all runs: {directory.parents[1]}/leaderboard.md, accuracy_vs_parameters.png"
    files = f"{directory}/result.json, student.safetensors; {over_all}"
    rank_zero_print("\n".join((verdict(result), *further(result), files)), result=True)


def final_table(result: Result) -> Table:
    """Teacher, student alone and student distilled, one row each, as far as the run had them."""
    shown = primary(result)
    student = "student alone" if result.alone else f"student, {result.method}"
    labels = {"teacher": "teacher", "baseline": "student alone", "student": student}
    rows = []
    for role, entry in result.entries.items():
        gain, closed = (result.gain, result.gap_closed) if role == "student" else (None, None)
        share = NOTHING if gain is None or closed is None else f"{percent(closed, 0)} %"
        figures = [shown.form(result.score(role)), shown.difference(gain), share]
        rows.append([f"{labels[role]}: {entry.name}", *figures, *(_compared(result, role, key) for key in RANKED)])
    figure = "accuracy" if shown.scale == 100 else shown.label
    title = f"{result.data.name}, protocol {result.protocol}: {figure} on {result.data.test or 'the'} test {_tested(result)}"
    brackets = "In brackets: share of the teacher's." if result.teacher else ""
    caption = " ".join(filter(None, (brackets, measured_on(result))))
    headings = [heading.format(one_sample(result.task)) for heading in HEADINGS]
    table = terminal(["model", shown.heading, *headings], rows, texts=["model"], title=title, caption=caption)
    table.rows[-1].style = "bold"
    return table


def _tested(result: Result) -> str:
    return samples(result.task) if result.task in SAMPLES else "samples"


def measured_on(result: Result) -> str:
    """Where the latencies were measured, in a sentence; empty where it is not known."""
    where = machine(result.student.efficiency)
    busy = (
        ", which was busy: no speed is certain"
        if any(not one.efficiency.steady for one in result.entries.values())
        else ""
    )
    return f"Measured on {where}{busy}." if where else ""


def _compared(result: Result, role: Role, key: str) -> str:
    """A figure with its share of the teacher's."""
    value, of_teacher = (entry and entry.figure(key) for entry in (result.entries[role], result.teacher))
    if value is None:
        return NOTHING
    text = METRICS[key].form(value) + UNITS.get(key, "")
    if role == "teacher" or not of_teacher:
        return text
    share = 100 * value / of_teacher
    return f"{text} ({share:.{0 if share >= 9.95 else 1}f} %)"


def verdict(result: Result) -> str:
    """What the run shows, in plain words: gain, share of the gap closed, and how far one seed can be trusted.

    Where every epoch was tested, also the best epoch's and the last one's accuracy, which papers report.
    """
    best, last = (result.student.figure(f"{result.primary.name}_{which}") for which in ("best", "last"))
    said, shown = _outcome(result), primary(result)
    if best is None or last is None:
        return said
    return f"{said} Best epoch on test {shown.words(best)}, last epoch {shown.words(last)}."


def primary(result: Result) -> Metric:
    """How a primary figure is written."""
    return metric(result.primary.name, result.primary.higher_is_better)


def _outcome(result: Result) -> str:
    student, shown, error = result.student, primary(result), standard_error(result, "student")
    known = f" ± {100 * error:.1f} (binomial standard error, {result.data.test} test samples)" if error else ""
    reached = f"{shown.words(result.primary.value, 1)}{known}" + (f" {shown.label}" if result.task in SAMPLES else "")
    if result.alone:
        return f"{student.name} alone, without a teacher, reaches {reached}."
    if result.gain is None or not result.baseline:
        beside = f", the teacher {shown.words(result.score('teacher'), 1)}" if result.teacher else ""
        unknown = "what distillation itself brought is unknown without the same student trained alone (baseline=true)"
        return f"{student.name} reaches {reached}{beside}; {unknown}."
    pair = f"the same student alone ({student.name}, seed {result.seeds.get('seed')})"
    size = shown.difference(abs(result.gain), 1)
    brought = f"brought {size} {shown.gained} over" if result.gain > 0 else f"lost {size[1:]} {shown.gained} against"
    brought = brought if float(size) else "made no difference to"
    trust = sentence(result.paired and result.paired.words) or _trust(result)
    return f"Distillation {brought} {pair}{_gap(result)}. {trust}"


def further(result: Result) -> list[str]:
    """What else a run shows, a sentence each: the limits of the teacher, what is saved, what it cost, when it pays."""
    told = [scarce_labels(result)] if result.data.labelled is not None else []
    told += result.limits.sentences if result.limits else []
    against, alone = (entry and entry.against_teacher for entry in (result.student, result.baseline))
    if against and against.excess:
        found = against.excess
        low, high = (f"{end:+z.0f}".replace("-", "−") for end in (found.low, found.high))
        told.append(
            f"Of the teacher's {found.errors}{_errors(result)} the student repeats {found.repeated}, the student alone "
            f"{found.repeated_alone}: {found.value:+d} (95 % interval {low} to {high})".replace("-", "−")
            + "."
        )
    elif against and alone and against.repeated_by_chance is not None:
        told.append(
            f"Of the teacher's {against.teacher_errors}{_errors(result)} the student repeats "
            f"{percent(against.repeated_errors, 0)} % "
            f"({percent(against.repeated_by_chance, 0)} % by chance; alone {percent(alone.repeated_errors, 0)} %)."
        )
    told += filter(None, [*sentences(result), savings(result)])
    return told + (words(result.cost, primary(result).gain) if result.cost else [])


def _errors(result: Result) -> str:
    wrong = " errors"
    return f"{wrong} (tokens that are not its likeliest)" if result.task == "causal_lm" else wrong


def scarce_labels(result: Result) -> str:
    """How many labels the student knew, and who answered for the others, in a sentence."""
    known = f"Labels were scarce: the student knew {result.data.labelled:,} of {result.data.train:,} training labels"
    if not result.teacher:
        return f"{known}."
    more = result.config["teacher"].get("labelled") == 1 and not result.config["teacher"].get("checkpoint")
    learned = ", which learned from all," if more else ""
    mend = "data.labels=all" if result.config["data"].get("labels") == "teacher" else "data.labelled=1.0"
    return f"{known}, and the teacher{learned} answered for the others; {mend} shows all of them to the student."


def savings(result: Result) -> str:
    """What the student takes less than its teacher, in a sentence; empty where there is none."""
    student, teacher = result.student, result.teacher
    found = in_words(ratios(teacher.efficiency, student.efficiency), one_sample(result.task)) if teacher else ""
    return found and f"Against its teacher, {student.name} is or has: {found}."


def sentence(words: str | None) -> str | None:
    """Words as a sentence: a capital, and one full stop; None where there are none."""
    return words and f"{words[0].upper()}{words[1:].rstrip('.')}."


def standard_error(result: Result, role: Role) -> float | None:
    """Binomial standard error of a role's accuracy, from 0 to 1; None for another figure, or unknown test samples."""
    share, samples = result.score(role), result.data.test
    return sqrt(share * (1 - share) / samples) if samples and primary(result).scale == 100 else None


def _gap(result: Result) -> str:
    if not result.teacher:
        return ""
    share, shown = result.gap_closed, primary(result)
    if share is None:
        scores = " against ".join(shown.words(result.score(role), 1) for role in ("teacher", "baseline"))
        above = "above" if result.primary.higher_is_better else "below"
        return f"; the teacher is not {above} the student alone ({scores}), so there was no gap to close"
    if share >= 1:
        return f" and closed the whole gap to the teacher ({100 * share:.0f} %)"
    return f" and closed {100 * share:.0f} % of the gap to the teacher" if round(share, 2) > 0 else ""


def _trust(result: Result) -> str:
    error, other = standard_error(result, "student"), standard_error(result, "baseline")
    if error is None or other is None:
        return "One seed: another may say otherwise."
    samples = f"{result.data.test} test samples"
    known = f"One seed, and {samples} give each accuracy a standard error of {100 * error:.1f} points"
    # As if the two were tested on different samples: wider than the truth, so that nothing is called sure too early.
    if abs(result.gain) < 2 * sqrt(error**2 + other**2):
        return f"{known}: a difference this small can be chance."
    return f"{known}: more than the test samples explain, but another seed may differ."
