"""Every sentence about gains of a run and of a row; numbers are written as the metric table says."""

from collections.abc import Sequence
from statistics import fmean

from distillab.core.result import REFERENCES, Result, Role
from distillab.core.run_identity import population_words
from distillab.evaluation.families import Finding
from distillab.reporting.cost_words import words
from distillab.reporting.metric_table import (
    NOTHING,
    OVER_RANDOM,
    Metric,
    counted,
    many_tested,
    metric,
    percent,
    probability,
    signed,
    tested,
)
from distillab.reporting.rows import Row, by_multiply_adds, gap_closed, length_of

# What a gain is over, in a sentence.
OVER: dict[Role, str] = {
    "baseline": "the same student alone",
    "random": OVER_RANDOM,
}
# Of results that an earlier version wrote.
UNKNOWN_REFERENCE = "the answers of random weights with a fitted head were not kept"


def primary(result: Result) -> Metric:
    """How a primary figure is written."""
    return metric(result.primary.name, result.primary.higher_is_better)


def interval(low: float, high: float, shown: Metric) -> str:
    """The two ends of an interval of gains; shares cannot differ by more than one."""
    if shown.scale == 100:
        low, high = max(low, -1.0), min(high, 1.0)
    return f"{shown.difference(low).lstrip('+')} to {shown.difference(high).lstrip('+')}"


def ends(found: Finding | None, shown: Metric) -> str:
    """The interval of a finding, for a table."""
    return NOTHING if found is None or found.low is None else interval(found.low, found.high, shown)


def finding_words(found: Finding, shown: Metric, population: str, over: str = "") -> str:
    """A gain, what it is over, its interval, whether it is shown, and what the interval speaks of."""
    size = f"{shown.gain(found.gain)} {over}".rstrip()
    if not found.speaks_of:
        which = "one run, which says nothing of the methods (seed=0,1,2)"
        same = f"{found.runs} runs without any spread between them, so nothing can be tested"
        return f"{size} in {which if found.runs == 1 else same}"
    corrected = f", corrected for {found.size} comparisons" if found.size > 1 else ""
    ends = f"95 % interval {interval(found.low, found.high, shown)}{corrected}"
    said = f"{size} ({ends})" if found.shown else f"no difference shown: {size} ({ends})"
    said += (", shown" if found.gain > 0 else ", a loss, shown") if found.shown else ""
    return f"{said}; it speaks of {population}{_chances(found, shown)}"


def _chances(found: Finding, shown: Metric) -> str:
    if found.chance_better is None:
        return ""
    margin = "1 point" if shown.scale == 100 else "1 % of the figure"
    return (
        f"; better with probability {probability(found.chance_better)} %, "
        f"equal within {margin} with {probability(found.chance_within)} %"
    )


def population(found: Finding, results: Sequence[Result]) -> str:
    """What a finding speaks of, in words."""
    kind = tested(results[0].task)
    if found.speaks_of == ("samples",):
        return f"these two trained files on other test {kind}, not of the methods"
    drawn = population_words(results[0].population) or "repetitions"
    return f"{drawn} on {'new' if 'samples' in found.speaks_of else 'these'} test {kind}"


def part_of(found: Finding | None, row: Row) -> str:
    """How many of a row's runs a finding is over, where it is not all of them: ` (1 of 3 runs)`."""
    if found is None or found.runs >= len(row.results):
        return ""
    return f" ({found.runs} of {len(row.results)} runs)"


def row_words(row: Row) -> str:
    """What a row shows: at equal steps, and at equal whole cost."""
    if row.kind != "distilled":
        longer = "the student alone, trained for the whole cost of a method"
        return {"alone": "the student alone", "random": OVER["random"], "longer": longer}[row.kind]
    if row.gain is None and row.reference == "random":
        return f"the gain is unknown: {UNKNOWN_REFERENCE} (rerun=true)"
    if row.gain is None:
        return "the gain is unknown: no student trained alone (baseline=true)"
    over = f"over {OVER_RANDOM}" if row.reference == "random" else ""
    said = finding_words(row.gain, row.metric, population(row.gain, row.results), over)
    return f"{said}. {_at_cost(row)}" if row.at_cost else said


def _at_cost(row: Row) -> str:
    """The gain at the whole cost that the runs had, and what both costs are."""
    known = [result.cost.equal_compute for result in row.costing]
    live, cached = (fmean(costs) if costs else None for costs in (
        [one.live for one in known if one.live], [one.cached for one in known if one.cached]))  # fmt: skip
    costs = {"with a live teacher": live, "with cached outputs": cached}
    told = " and ".join(f"{cost:.3g} × {how}" for how, cost in costs.items() if cost)
    used = "with cached outputs" if row.charged == "cached" else "with a live teacher"
    said = (
        f"At the same whole cost{row.charged_by}, {used}: {brief(row.at_cost, row.metric)}{part_of(row.at_cost, row)}"
    )
    if any(map(by_multiply_adds, row.results)) and not row.charged_by:
        said += ", by the runs that were charged by seconds"
    if row.charged == "cached" and (gains := [one.gain_live for one in known if one.gain_live is not None]):
        said += f"; at that of a live teacher: {row.metric.gain(fmean(gains))}"
    return f"{said}; a step costs {told} of a step alone" if told else said


def brief(found: Finding, shown: Metric, over: str = "") -> str:
    """A gain, what it is over, its interval where there is one, and whether it is shown."""
    size = f"{shown.gain(found.gain)} {over}".rstrip()
    if found.low is None:
        return size
    outcome = ("shown" if found.gain > 0 else "a loss, shown") if found.shown else "no difference shown"
    return f"{size} ({interval(found.low, found.high, shown)}), {outcome}"


def named(reference: Role) -> str:
    """What a gain is over, with its article."""
    return f"the {REFERENCES[reference]}" if reference == "baseline" else REFERENCES[reference]


def verdict(result: Result) -> str:
    """What one run shows: the gain, its interval, and what that speaks of, in a sentence."""
    student, shown = result.student, primary(result)
    reached = f"{shown.words(result.primary.value)} {shown.label}"
    if result.alone:
        return f"{student.name} alone, without a teacher, reaches {reached}."
    if result.head_fitted and result.gain is None:
        known = (result.features or {}).get("random")
        figure = f" ({percent(known.probe, 1)} % by a linear probe)" if known else ""
        unknown = f"what distillation itself brought is unknown: {UNKNOWN_REFERENCE}{figure}"
        return f"{student.name} reaches {reached}; {unknown}; rerun=true tests it."
    if result.gain is None or result.score(result.reference) is None:
        unknown = "what distillation itself brought is unknown without the same student trained alone (baseline=true)"
        return f"{student.name} reaches {reached}; {unknown}."
    size, paired = shown.gain(result.gain), result.paired
    over = f"over {OVER[result.reference]}"
    if paired is None or paired.low is None:
        said = f"Distillation: {size} {over}; one run says nothing of the methods (seed=0,1,2)"
    else:
        images = many_tested(result.data.test, result.task)
        tests = counted(paired.documents, "test document") if paired.documents else images
        where = f"95 % interval {interval(paired.low, paired.high, shown)} on {tests}"
        start, size = f"Distillation {'brought' if result.gain > 0 else 'lost'}", size.lstrip("+−")
        if paired.low <= 0 <= paired.high:
            start, size = "No difference shown:", shown.gain(result.gain)
        said = f"{start} {size} {over} ({where}); it speaks of these two trained files, not of the methods"
    return f"{said}{_gap(result)}{_longer(result)}."


def _gap(result: Result) -> str:
    share, paired = gap_closed(result), result.paired
    shown = paired is None or paired.low is None or paired.low > 0
    return f"; {percent(share, 0)} % of the gap to the teacher" if shown and share is not None and share > 0 else ""


def _longer(result: Result) -> str:
    longer, name = result.longer, result.primary.name
    if longer is None or name not in longer.metrics:
        return ""
    if result.head_fitted:
        reached = primary(result).words(longer.metrics[name])
        return f"; the student alone, trained for {_cost_of(result)} ({length_of(longer)}), has {reached}"
    gain = primary(result).gain(result.primary.gain(result.primary.value, longer.metrics[name]))
    return f"; {gain} over it trained for {_cost_of(result)} ({length_of(longer)})"


def _cost_of(result: Result) -> str:
    """For what the student alone was trained longer; in whole epochs, or steps."""
    return "at least what its steps cost" if result.teacher is None else "at least what a live teacher costs"


def errors_words(result: Result) -> str:
    """How many of the teacher's errors distillation made the student repeat, beyond its reference; empty where unknown."""
    found = result.student.against_teacher and result.student.against_teacher.excess
    if not found or not found.errors:
        return ""
    value, low, high = (signed(bound, 0) for bound in (found.value, found.low, found.high))
    wrong = counted(found.errors, "error") + (
        " (tokens that are not its likeliest)" if result.task == "causal_lm" else ""
    )
    return (
        f"Of the teacher's {wrong} the student repeats {found.repeated:,} and {named(result.reference)} "
        f"{found.repeated_alone:,}: {value} by distillation (95 % interval {low} to {high})"
        f"{'' if found.low > 0 or found.high < 0 else ', no difference shown'}."
    )


def calibration_words(result: Result) -> str:
    """Whether distillation spoils how sure the student is of its answers; empty where that is not shown."""
    worse = result.against_alone and result.against_alone.spoiled
    if not worse:
        return ""
    told = [
        f"{metric(key).label} {metric(key).difference(one.value)} ({interval(one.low, one.high, metric(key))})"
        for key in worse
        if (one := getattr(result.against_alone, key))
    ]
    against = named(result.reference)
    return f"Warning: distillation spoils the student's probabilities on test, against {against}: {' and '.join(told)}."


def cost_words(result: Result) -> list[str]:
    """What the run cost and what that brought, a sentence each."""
    return words(result.cost, primary(result).gain) if result.cost else []
