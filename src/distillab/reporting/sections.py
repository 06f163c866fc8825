"""The report's sections as plain data: sentences, tables and charts, and the choices between them."""

import statistics
from collections import defaultdict
from typing import Any

from distillab.core.result_parts import LimitsLine
from distillab.evaluation.cost import words
from distillab.evaluation.statistics import mean_interval
from distillab.reporting import charts
from distillab.reporting.comparison import Answers, against_each_other
from distillab.reporting.drawn import Curve, Span
from distillab.reporting.looks import ALONE
from distillab.reporting.metric_table import METRICS, PLOTTED, percent, points
from distillab.reporting.points import points as chart_points
from distillab.reporting.ranking import by_place, interval, p_value, taught_methods
from distillab.reporting.rows import Row
from distillab.reporting.run_sections import agreement, deployed, provenance, views_by_place
from distillab.reporting.tables import Section, Table, section, table, view


def sections(rows: list[Row], answers: Answers | None = None) -> list[Section]:
    """All sections that some run has data for, in the order in which they are read."""
    made = [accuracy(rows), budget(rows), pairs(rows, answers), learning(rows), limits(rows), cost(rows)]
    return [one for one in (*made, agreement(rows), deployed(rows), provenance(rows)) if one["views"]]


def accuracy(rows: list[Row]) -> Section:
    """The primary figure against each cost, with the fronts."""
    views, methods = [], taught_methods(rows)
    for place, members in by_place(rows).items():
        for key in PLOTTED:
            if chart := charts.accuracy(chart_points(members, key), key, methods, members[0].metric):
                views.append(view([place, METRICS[key].label], charts=[chart]))
    figures = {row.metric.label for row in rows if row.metric.scale != 100}
    figure = figures.pop() if len(figures) == 1 and all(row.metric.scale != 100 for row in rows) else "accuracy"
    about = (
        "Each point is the mean over a method's seeds, with its 95 % interval where there are several. "
        f"On the front, the grey line, lie the students, taught or not, that no other one beats in both cost and {figure}. "
        "Click a name to see it alone."
    )
    return section(
        "accuracy", f"{figure[:1].upper()}{figure[1:]} against cost", about, choices=["data", "against"], views=views
    )


def budget(rows: list[Row]) -> Section:
    """The primary figure over the epochs of training, one chart for each student that was trained for several budgets."""
    views, methods = [], taught_methods(rows)
    for place, members in by_place(rows).items():
        for student in sorted({row.student for row in members}):
            models = chart_points([row for row in members if row.student == student], "epochs")
            if chart := charts.budget(models, methods, members[0].metric):
                views.append(view([place, student], charts=[chart]))
    about = "What a longer training brings with each method, and without a teacher. Means over seeds, with their 95 % intervals."
    return section("budget", "Over the budget", about, choices=["data", "student"], views=views)


PAIRS = ("method", "against", "student", "difference", "95 % interval", "p (Holm)", "in words")


def pairs(rows: list[Row], answers: Answers | None = None) -> Section:
    """Every two methods on the same seeds, or on the test samples of a single one."""

    def lines_of(members: list[Row]) -> list[list[Any]]:
        form, lines = members[0].metric.difference, []
        for pair in against_each_other(sorted(members, key=lambda row: row.family), answers):
            if len(pair.seeds) > 1 or pair.on_samples:
                names = (", ".join((row.label, *row.apart.values())) for row in (pair.first, pair.second))
                mean, low, high = pair.difference.mean, pair.difference.low, pair.difference.high
                p = None if low is None else pair.difference.p_holm
                tested = [[form(mean), mean], [interval(low, high, form), low], [p_value(p), p]]
                lines.append([*names, pair.first.student, *tested, pair.words])
        return lines

    about = (
        "Paired t-tests on the seeds that both methods have, by Holm's correction over the pairs with one teacher. Where "
        "that is one seed, the two models on the same test samples, as far as their runs are there."
    )
    views = views_by_place(rows, PAIRS, lines_of)
    return section("pairs", "Methods against each other", about, choices=["data"], views=views)


def learning(rows: list[Row]) -> Section:
    """Every metric of the curves over the epochs, student and baseline, one chart for each pair of networks."""
    lines: dict[tuple[str, str], dict[tuple[Any, ...], Any]] = {}
    for row in rows:
        pair = f"{row.student}, {row.place}"
        for result in row.results:
            own = ALONE if row.alone else row.method
            for entry, series in ((result.student, own), (result.baseline, ALONE)):
                curve = entry.training.curves if entry else []
                told = (series, row.changed, *row.apart.values(), f"seed {result.seeds.get('seed')}")
                run = ", ".join(filter(None, told))
                for metric in {key: None for epoch in curve for key in epoch if key not in ("epoch", "seconds")}:
                    known = [epoch for epoch in curve if epoch.get(metric) is not None]
                    if not known:  # a loss that was never finite
                        continue
                    epochs, values = ([epoch[key] for epoch in known] for key in ("epoch", metric))
                    lines.setdefault((pair, metric), {}).setdefault(
                        (series, *values), Curve(series, run, epochs, values)
                    )
    first, methods = {f"val/{row.primary.name}" for row in rows}, taught_methods(rows)
    order = sorted(lines, key=lambda key: (key[0], key[1] not in first, key[1]))
    views = [view(key, charts=[charts.curves([*lines[key].values()], key[1], methods)]) for key in order]
    about = "One line a run; dashed is the student alone. Click a name to see it alone."
    return section("learning", "Learning curves", about, choices=["student", "metric"], views=views)


LIMITS = ("class or bin", "samples", "teacher %", "alone %", "distilled %", "change", "95 % interval", "")


def limits(rows: list[Row]) -> Section:
    """What became of each class and difficulty bin, for each run."""
    views = []
    for row, result in ((one, result) for one in rows for result in one.results if result.limits):
        found, run = result.limits, f"{row.place}: {row.title}, seed {result.seeds.get('seed')}"
        parts = {what: lines for what, lines in (("class", found.classes), ("difficulty", found.bins)) if lines}
        shown = {what: charts.weakest(lines) if what == "class" else lines for what, lines in parts.items()}
        drawn = [charts.limits(lines, what, found.hurt) for what, lines in shown.items()]
        views.append(view([run], found.sentences, drawn, (_limits_table(each, found.hurt) for each in parts.values())))
    about = (
        "Accuracy of teacher, student alone and distilled student on the same test samples, class by class and by the "
        "teacher's margin between its two likeliest answers (small is hard)."
    )
    return section("limits", "What the teacher cannot teach", about, choices=["run"], views=views, detail=True)


def _limits_table(lines: list[LimitsLine], hurt: list[str]) -> Table:
    def cells(line: LimitsLine) -> list[Any]:
        shares = [[percent(share, 1), share] for share in (line.teacher, line.alone, line.distilled)]
        bounds = f"{points(line.low, 1)} to {points(line.high, 1)}"
        change = [[points(line.change, 1), line.change], [bounds, line.low]]
        return [line.name, [str(line.samples), line.samples], *shares, *change, "hurt" if line.name in hurt else ""]

    return table(LIMITS, map(cells, lines))


GAINS = {
    "gain at equal steps": "gain_equal_steps",
    "at equal compute, live teacher": "gain_live",
    "with a warm cache": "gain_warm_cache",
}


def cost(rows: list[Row]) -> Section:
    """Where the time went, and what it bought."""
    views, told = [], [row for row in rows if any(result.cost for result in row.results)]
    for place, members in by_place(told).items():
        times = [_mean_times(row) for row in members]
        spans = [Span(row.title, *spent) for row, time in zip(members, times, strict=True) for spent in time.items()]
        drawn = [charts.seconds(spans)] if spans else []
        content = table(("method", *GAINS, "in words, last seed"), map(_cost_line, members))
        views.append(view([place], charts=drawn, tables=[content]))
    units = {row.metric.gained.replace("points", f"in points of {row.metric.label}"): None for row in told}
    about = (
        f"Seconds of the student's training by what they were spent on, and the gain {' or '.join(units)} over the student "
        "alone: trained for as many steps, or for as much compute as the teacher took. Means over a method's seeds, with "
        "their 95 % t interval."
    )
    return section("cost", "Cost and return", about, choices=["data"], views=views)


def _mean_times(row: Row) -> dict[str, float]:
    """Seconds by part, the mean over the runs."""
    found: dict[str, list[float]] = defaultdict(list)
    for result in row.results:
        for part, spent in ((result.cost and result.cost.time) or {}).items():
            found[part].append(spent)
    return {part: statistics.fmean(spent) for part, spent in found.items()}


def _cost_line(row: Row) -> list[Any]:
    cells, form, known = [], row.metric.difference, [result.cost for result in row.results if result.cost]
    for key in GAINS.values():
        gains = [getattr(one.equal_compute, key) for one in known if one.equal_compute]
        gains = [gain for gain in gains if gain is not None]
        if len(set(gains)) < 2:  # without a spread there is no interval
            value, spread = statistics.fmean(gains) if gains else None, ""
        else:
            value, _, low, high = mean_interval(gains)
            spread = f" ({form(low)} to {form(high)})"
        cells.append([form(value) + spread, value])
    return [row.title, *cells, " ".join(words(known[-1], row.metric.gain))]
