"""Why a gain may say nothing of a method, whatever its interval: networks at chance, or a teacher that knows no more."""

from collections.abc import Mapping
from statistics import fmean

from distillab.core.result import Result, Role
from distillab.evaluation.chance import hardly_better
from distillab.reporting.metric_table import percent
from distillab.reporting.rows import Row
from distillab.reporting.words import named, primary

Scores = Mapping[Role, float]


def of_run(result: Result) -> str:
    """The doubts about the figures of one run, a sentence each; empty where there are none."""
    scores = {role: result.score(role) for role in result.entries}
    return _doubts({"baseline": scores["student"]} if result.alone else scores, result)


def of_row(row: Row) -> str:
    """The doubts about the mean figures of a row; those of random weights, and of the student trained longer, are no own ones."""
    roles = {"distilled": ("teacher", row.reference, "student"), "alone": ("teacher",)}.get(row.kind, ())
    known = {role: [result.score(role) for result in row.results] for role in roles}
    scores = {role: fmean(each) for role, each in known.items() if None not in each}
    return _doubts(scores | ({"baseline": row.mean} if row.kind == "alone" else {}), row.results[0])


def _doubts(scores: Scores, first: Result) -> str:
    return " ".join(filter(None, (_at_chance(scores, first), _weak_teacher(scores, first))))


def _at_chance(scores: Scores, first: Result) -> str:
    """Which networks answer hardly better than by chance; of random weights this is no surprise."""
    classes = first.data.classes
    if first.primary.name != "top1" or not classes:
        return ""
    low = {role: score for role, score in scores.items() if role != "random" and hardly_better(score, 1 / classes)}
    if not low:
        return ""
    names: Mapping[Role, str] = {"teacher": "the teacher", "baseline": named("baseline"), "student": "the student"}
    told = " and ".join(f"{names[role]} ({percent(score)} %)" for role, score in low.items())
    are = "is" if len(low) == 1 else "are"
    return f"Warning: {told} {are} hardly better than chance ({percent(1 / classes)} %): comparing such networks says nothing of a method."


def _weak_teacher(scores: Scores, first: Result) -> str:
    """Whether the teacher is worse than what the gain is over."""
    over = first.reference if first.reference in scores else "baseline"
    if "teacher" not in scores or over not in scores or first.primary.gain(scores["teacher"], scores[over]) >= 0:
        return ""
    teacher, alone = (f"{primary(first).words(scores[role])} {primary(first).label}" for role in ("teacher", over))
    return f"Warning: the teacher ({teacher}) is worse than {named(over)} ({alone}), and has little to teach."
