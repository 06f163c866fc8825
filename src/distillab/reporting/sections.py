"""The report's sections: sentences, tables and charts, and the choices between them."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from distillab.core.result import REFERENCES
from distillab.core.result_parts import Limits, LimitsLine
from distillab.evaluation.families import Finding
from distillab.reporting import charts, gains_chart, limits_chart
from distillab.reporting.answers import Answers
from distillab.reporting.comparison import against_each_other, tables
from distillab.reporting.looks import ALONE
from distillab.reporting.metric_table import (
    METRICS,
    NOTHING,
    OVER,
    OVER_RANDOM,
    PLOTTED,
    gain_note,
    percent,
    probability,
)
from distillab.reporting.metric_table import points as in_points
from distillab.reporting.network_sections import by_table, deployed, features, judgement, provenance
from distillab.reporting.points import Curve, Span, by_student, methods, points, teachers
from distillab.reporting.rows import Row, several
from distillab.reporting.tables import Cell, Section, Table, View
from distillab.reporting.words import brief, calibration_words, cost_words, ends, errors_words


def sections(rows: list[Row], answers: Answers | None = None) -> list[Section]:
    """All sections that some run has data for, in the order in which they are read."""
    made = [
        gains(rows),
        accuracy(rows),
        budget(rows),
        pairs(rows, answers),
        learning(rows),
        limits(rows),
        cost(rows),
        features(rows),
        judgement(rows),
    ]
    return [one for one in (*made, deployed(rows), provenance(rows)) if one.views]


def gains(rows: list[Row]) -> Section:
    """What each method brings, for each table of rows."""
    views = [
        View([place.words(several(members))], charts=[chart])
        for place, members in tables(rows).items()
        if (chart := gains_chart.gains(members, methods(rows)))
    ]
    gained = [row for row in rows if row.gain]
    over = " or over ".join(
        words
        for role, words in (("baseline", OVER), ("random", OVER_RANDOM))
        if role in {row.reference for row in gained}
    )
    about = (
        f"{gain_note(dict.fromkeys(row.metric for row in gained), over)} The best rank first; the line is the 95 % interval, corrected "
        "for all gains of a table, and an arrow means that it goes on. An interval that leaves out zero shows a difference."
    )
    return Section("gains", "Gains", about, views, ["table"])


def accuracy(rows: list[Row]) -> Section:
    """The primary figure against each cost, with the front."""
    views = [
        View([place.words(several(members)), METRICS[key].label], charts=[chart])
        for place, members in tables(rows).items()
        for key in PLOTTED
        if (chart := charts.accuracy(points(members, key), key, methods(rows), members[0].metric))
    ]
    figure = " or ".join(dict.fromkeys(row.metric.label for row in rows))
    about = (
        "Each point is the mean over a method's runs, with its 95 % interval where there are several. On the front lie the "
        f"networks that no other one beats in both cost and {figure}, the grey line. Click a name to see it alone."
    )
    return Section("accuracy", f"{figure[:1].upper()}{figure[1:]} against cost", about, views, ["table", "against"])


def budget(rows: list[Row]) -> Section:
    """The primary figure over the epochs of training, for each student that was trained for several budgets."""
    views = [
        View([title], charts=[chart])
        for title, members in by_student(rows).items()
        if (chart := charts.budget(points(members, "epochs"), methods(rows), members[0].metric, teachers(members)))
    ]
    about = "What a longer training brings with each method, and without a teacher. Means over runs, with their 95 % intervals."
    return Section("budget", "Over the budget", about, views, ["student"])


def pairs(rows: list[Row], answers: Answers | None = None) -> Section:
    """Every two methods of one student on the runs that both have."""

    def table(members: list[Row]) -> Table:
        shown = members[0].metric
        lines = [
            {
                "method": pair.first.label,
                "against": pair.second.label,
                "student": pair.first.student,
                "difference": Cell(shown.difference(found.gain), found.gain),
                "95 % interval": Cell(ends(found, shown), found.low),
                "outcome": _outcome(found),
                "better with probability %": Cell(probability(found.chance_better), found.chance_better),
            }
            for pair in against_each_other(members, answers)
            for found in [pair.finding]
        ]
        return Table.of(lines).without_empty()

    about = (
        "Paired by seed, and by test sample where the answers were kept; corrected for all pairs of a table together."
    )
    return Section("pairs", "Methods against each other", about, by_table(rows, table), ["table"])


def _outcome(found: Finding) -> str:
    if not found.speaks_of:
        return "one run" if found.runs == 1 else "no spread between the runs"
    files = " for these two files" if found.speaks_of == ("samples",) else ""  # of one seed: never of the methods
    return f"{'shown' if found.shown else 'no difference shown'}{files}"


def learning(rows: list[Row]) -> Section:
    """Every metric of the curves over the epochs, student and baseline, one chart for each student."""
    lines: dict[tuple[str, str], dict[Any, Curve]] = {}
    for row in (row for row in rows if row.kind != "longer"):
        student = f"{row.student}, {row.place.words(several([row]))}"
        for result in row.results:
            curve = [epoch for epoch in row.entry(result).training.curves if "epoch" in epoch]
            for name in {key: None for epoch in curve for key in epoch if key not in ("epoch", "seconds")}:
                known = [(epoch["epoch"], epoch[name]) for epoch in curve if epoch.get(name) is not None]
                if known:  # else a loss that was never finite
                    line = Curve(row.series, f"{row.label}, seed {result.seed}", *zip(*known, strict=True))
                    lines.setdefault((student, name), {})[line.series, line.values, row.label] = line
    first = {f"val/{row.primary.name}" for row in rows}
    order = sorted(lines, key=lambda key: (key[0], key[1] not in first, key[1]))
    views = [View(key, charts=[charts.curves(list(lines[key].values()), key[1], methods(rows))]) for key in order]
    about = "One line a run; dashed is the student alone. Click a name to see it alone."
    return Section("learning", "Learning curves", about, views, ["student", "metric"])


def limits(rows: list[Row]) -> Section:
    """What became of each class and difficulty bin, for each run."""
    views = []
    for row, result in ((one, result) for one in rows if one.kind == "distilled" for result in one.results):
        if found := result.limits:
            parts = {what: lines for what, lines in (("class", found.classes), ("difficulty", found.bins)) if lines}
            shown = {what: limits_chart.weakest(lines) if what == "class" else lines for what, lines in parts.items()}
            drawn = [limits_chart.limits(lines, what, found.hurt, found.alone) for what, lines in shown.items()]
            said = [*found.sentences, *filter(None, (errors_words(result), calibration_words(result)))]
            run = f"{row.place.words(several([row]))}: {row.title}, seed {result.seed}"
            views.append(View([run], said, drawn, [_limits_table(each, found) for each in parts.values()]))
    about = (
        "Accuracy of teacher, student alone (or random weights, where a head was fitted afterwards) and distilled student on the "
        "same test samples, class by class and by the teacher's margin between its two likeliest answers (small is hard)."
    )
    return Section("limits", "What the teacher cannot teach", about, views, ["run"], kept=0)


def _limits_table(lines: Sequence[LimitsLine], found: Limits) -> Table:
    names = {"teacher": "teacher", "alone": "alone" if found.alone == ALONE else found.alone, "distilled": "distilled"}
    return Table.of([
        {
            "class or bin": line.name,
            "samples": Cell(str(line.samples), line.samples),
            **{f"{name} %": Cell(percent(share := getattr(line, role), 1), share) for role, name in names.items()},
            "change": Cell(in_points(line.change), line.change),
            "95 % interval": Cell(f"{in_points(line.low)} to {in_points(line.high)}", line.low),
            "": "hurt" if line.name in found.hurt else "",
        }
        for line in lines
    ])  # fmt: skip


def cost(rows: list[Row]) -> Section:
    """Where the time went, and what it bought."""
    views, taught = [], [row for row in rows if any(result.cost for result in row.results)]
    for place, members in tables([row for row in taught if row.kind == "distilled"]).items():
        spans = [Span(row.title, *spent) for row in members for spent in _mean_times(row).items()]
        drawn = [charts.seconds(spans)] if spans else []
        shown = members[0].metric
        lines = [
            {
                "method": row.title,
                "gain at equal steps": _gain(row),
                "at the same whole cost": brief(row.at_cost, shown) if row.at_cost else NOTHING,
                "in words, last run": " ".join(cost_words(row.results[-1])),
            }
            for row in members
        ]
        views.append(View([place.words(several(members))], charts=drawn, tables=[Table.of(lines)]))
    about = (
        "Seconds of the student's training by what they were spent on, and the gain over the student alone: trained for as "
        "many steps, or for as long as a step of the distilled run takes in all, both timed in turn on the same machine."
    )
    return Section("cost", "Cost and return", about, views, ["table"])


def _gain(row: Row) -> str:
    over = f"over {REFERENCES['random']}" if row.reference == "random" else ""
    return brief(row.gain, row.metric, over) if row.gain else NOTHING


def _mean_times(row: Row) -> dict[str, float]:
    """Seconds by part, the mean over the runs."""
    found: dict[str, list[float]] = defaultdict(list)
    for result in row.results:
        for part, spent in ((result.cost and result.cost.time) or {}).items():
            found[part].append(spent)
    return {part: statistics.fmean(spent) for part, spent in found.items()}
