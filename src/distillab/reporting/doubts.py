"""Why a gain may say nothing of a method, whatever its interval: networks at chance, or a teacher that knows no more."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from distillab.core.result import Result, Role
from distillab.core.result_parts import Entry
from distillab.evaluation.chance import hardly_better
from distillab.reporting.metric_table import metric, percent
from distillab.reporting.rows import Row
from distillab.reporting.words import named, primary

Entries = Mapping[Role, Sequence[Entry]]  # of all runs of a row, by role
MARK = " (!)"  # beside a gain in a table, for whoever reads no further


def of_run(result: Result) -> str:
    """The doubts about the figures of one run, a sentence each; empty where there are none."""
    known = {"baseline": [result.student]} if result.alone else {role: [one] for role, one in result.entries.items()}
    return _doubts(known, [result])


def of_row(row: Row) -> str:
    """The doubts about a row; those of random weights, and of the student trained longer, are no own ones."""
    roles = {"distilled": ("teacher", row.reference, "student"), "alone": ("teacher",)}.get(row.kind, ())
    known = {role: [one for result in row.results if (one := getattr(result, role))] for role in roles}
    known = {role: each for role, each in known.items() if len(each) == len(row.results)}
    if row.kind == "alone":
        known["baseline"] = [row.entry(result) for result in row.results]
    return " ".join(filter(None, (_doubts(known, row.results), _several(row))))


def of_table(table: Sequence[Row]) -> list[str]:
    """The doubts about the rows of a table, each once, behind the rows that it concerns."""
    found: dict[str, list[str]] = {}
    for row in table:
        if doubt := of_row(row):
            found.setdefault(doubt, []).append(f"{row.label}, {row.student}")
    return [f"{'; '.join(names)}: {doubt}" for doubt, names in found.items()]


def _doubts(known: Entries, results: Sequence[Result]) -> str:
    return " ".join(filter(None, (_at_chance(known, results[0]), _weak_teacher(known, results))))


def _at_chance(known: Entries, first: Result) -> str:
    """Which networks answer hardly better than by chance; of random weights this is no surprise.

    By the balanced accuracy, where it is known: whoever answers with the largest class alone is right often.
    """
    classes = first.data.classes
    if first.primary.name != "top1" or not classes:
        return ""
    names: Mapping[Role, str] = {"teacher": "the teacher", "baseline": named("baseline"), "student": "the student"}
    low = []
    for role, entries in known.items():
        key = "balanced_accuracy" if all("balanced_accuracy" in one.metrics for one in entries) else "top1"
        score = fmean(one.metrics[key] for one in entries)
        if role in names and hardly_better(score, 1 / classes):
            low.append(f"{names[role]} ({metric(key).label} {percent(score)} %)")
    if not low:
        return ""
    are = "is" if len(low) == 1 else "are"
    chance = f"hardly better than chance ({percent(1 / classes)} %)"
    return f"Warning: {' and '.join(low)} {are} {chance}: comparing such networks says nothing of a method."


def _weak_teacher(known: Entries, results: Sequence[Result]) -> str:
    """Whether the teacher is shown, in each run, to be worse than what the gain is over."""
    shown, over = primary(results[0]), results[0].reference
    if "teacher" not in known or over not in known or not all(one.gap and one.gap.high < 0 for one in results):
        return ""
    teacher, alone = (
        f"{shown.words(fmean(one.metrics[results[0].primary.name] for one in known[role]))} {shown.label}"
        for role in ("teacher", over)
    )
    return f"Warning: the teacher ({teacher}) is worse than {named(over)} ({alone}), and has little to teach."


def _several(row: Row) -> str:
    """Which runs of a student alone were made more than once with other results: gains over them differ in what they are over."""
    told = [f"seed {seed} ({' and '.join(map(row.metric.words, scores))})" for seed, scores in row.repeats]
    return f"Warning: {row.label} was trained more than once with other results: {', '.join(told)}." if told else ""
