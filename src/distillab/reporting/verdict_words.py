"""The verdicts in words: who ranks first for a student, by which runs, and which rows have no rank."""

from collections.abc import Sequence

from distillab.reporting import doubts
from distillab.reporting.comparison import Verdict, verdicts
from distillab.reporting.metric_table import counted, samples
from distillab.reporting.ranking import lacking
from distillab.reporting.rows import Row
from distillab.reporting.words import UNKNOWN_REFERENCE, brief, named


def table_words(table: Sequence[Row]) -> list[str]:
    """What a table shows: a verdict for each student, and the doubts about its rows."""
    return [*map(verdict_words, verdicts(table)), *doubts.of_table(table)]


def verdict_words(found: Verdict) -> str:
    """Who ranks first for a student on validation, what test says of it, and what training longer brings, in a sentence or two."""
    first, shown, runs = found.first, found.first.metric, found.counted
    place = first.place.words(samples(first.results[0].task))
    where = "validation" if runs.validations else "test (no validation is known)"
    rank = f"{first.label} ranks first of {found.ranked} on {where}, with" if found.ranked > 1 else f"{first.label} has"
    if found.tied:
        others = " and ".join(row.label for row in found.tied)
        rank = f"{first.label} ties with {others} for the first place of {found.ranked} on {where}, and has"
    reached = f"{shown.words(runs.mean)} on test ({_runs(found)}{_ends(found)})"
    said = f"{first.student}: {rank} {reached}"
    if first.kind != "distilled":
        ahead = "; no method is ahead of it" + (" on validation." if first.validations else ".")
        said += ahead if found.ranked > 1 else "."
        if found.best and found.best.gain:
            said += f" The best method, {found.best.label}: {brief(found.best.gain, shown, f'over {named(found.best.reference)}')}."
    elif first.gain is None:
        unknown = UNKNOWN_REFERENCE if first.reference == "random" else "no student was trained alone (baseline=true)"
        said += f"; the gain is unknown: {unknown}."
    else:
        alone, files = f"over {named(first.reference)}{_gained_in(found)}", ""
        if first.gain.runs == 1 and first.gain.low is not None:
            files = "; this speaks of two trained files, not of the methods"
        elif first.gain.low is not None and "samples" not in first.gain.speaks_of:
            files = f", on these test {samples(first.results[0].task)} alone, as not all answers were kept"
        said += f"; {brief(first.gain, shown, alone)}{files}."
    if longer := found.longer:
        by = found.best.charged_by
        said += f" Trained for at least what a live teacher costs{by} ({longer.trained}), the student alone has {shown.words(longer.mean)}."
    return f"{said}{_left_out(found)} Table: {place}."


def _runs(found: Verdict) -> str:
    """By how many runs the first one is ranked, and which, where it has more."""
    many, of = len(found.counted.results), len(found.first.results)
    seeds = " ".join(map(str, found.first.ranked_on))
    return counted(many, "run") if many == of else f"{many} of its {of} runs, with the seeds that are ranked: {seeds}"


def _gained_in(found: Verdict) -> str:
    """In how many runs the gain was measured, where these are not the ones of the figure before it."""
    gain, ranked, known = found.first.gain, len(found.counted.results), len(found.first.seeds)
    if gain.runs < known:
        return f" in the {gain.runs} of {'them' if ranked == known else f'its {known} runs'} that have one"
    return f" in all {known} runs" if ranked < known else ""


def _left_out(found: Verdict) -> str:
    """Which rows have no rank, and why; and where the ranks are none of the table."""
    said = ""
    if found.left_out:
        known = "; ".join(f"{row.label} ({_lacks(row, found.first.ranked_on)})" for row in found.left_out)
        said += f" Not ranked: {known}."
    if found.apart:
        said += " It has too few of the seeds on which the table ranks, and is ranked apart."
    return said


def _lacks(row: Row, seeds: Sequence[int | None]) -> str:
    missing = lacking(row, seeds)
    return f"it lacks seed{'s' * (len(missing) > 1)} {' '.join(map(str, missing))}"


def _ends(found: Verdict) -> str:
    score, sign, shown = found.choice and found.choice.score, found.first.sign, found.first.metric
    if not score or score.low is None:
        return ""
    low, high = sorted((sign * score.low, sign * score.high))
    if shown.scale == 100:
        low, high = max(low, 0.0), min(high, 1.0)
    here = f"on these test {samples(found.first.results[0].task)}"
    return f"; 95 % interval {shown.words(low)} to {shown.words(high)} {here}, corrected for the choice"
