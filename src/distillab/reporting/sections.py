"""The report's sections as plain data: sentences, tables and charts, and the choices between them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from distillab.core.result_parts import LimitsLine
from distillab.evaluation.cost_words import words
from distillab.evaluation.statistics import mean_interval
from distillab.reporting import charts
from distillab.reporting.chart_points import points as chart_points
from distillab.reporting.group_table import interval, p_value
from distillab.reporting.groups import Group, by_ranking
from distillab.reporting.looks import ALONE
from distillab.reporting.metric_table import METRICS, PLOTTED, percent, points
from distillab.reporting.pairs import Answers, Pair, against_each_other
from distillab.reporting.run_sections import agreement, by_place, deployed, provenance
from distillab.reporting.tables import Section, section, table, view


def sections(groups: list[Group], answers: Answers | None = None) -> list[Section]:
    """All sections that some run has data for, in the order in which they are read."""
    methods = sorted({group.row.method for group in groups if not group.row.alone})
    made = (
        accuracy(groups, methods),
        pairs(groups, answers),
        learning(groups, methods),
        limits(groups),
        cost(groups),
        agreement(groups),
        deployed(groups),
        provenance(groups),
    )
    return [one for one in made if one["views"]]


def accuracy(groups: list[Group], methods: list[str]) -> Section:
    """The primary figure against each cost, with the fronts."""
    views = []
    for ranking, members in by_ranking(groups).items():
        models = chart_points(members)
        for key in PLOTTED:
            if chart := charts.accuracy(models, key, methods, members[0].row.primary.name):
                views.append(view([ranking, METRICS[key].label], charts=[chart]))
    about = (
        "Each point is the mean over a method's seeds, with its 95 % interval where there are several. "
        "On a front lie the models that no other one beats in both cost and accuracy."
    )
    return section("accuracy", "Accuracy against cost", about, ("data", "against"), views)


PAIRS = ("method", "against", "student", "difference", "95 % interval", "p (Holm)", "in words")


def pairs(groups: list[Group], answers: Answers | None = None) -> Section:
    """Every two methods on the same seeds, or on the test samples of a single one."""

    def rows_of(members: list[Group]) -> list[list[Any]]:
        found = against_each_other(sorted((group.row for group in members), key=lambda row: row.family), answers)
        return [_pair_row(pair) for pair in found if len(pair.seeds) > 1 or pair.on_samples]

    about = (
        "Paired t-tests on the seeds that both methods have, by Holm's correction over the pairs with one teacher. Where "
        "that is one seed, the two models on the same test samples, as far as their runs are there."
    )
    return section("pairs", "Methods against each other", about, ("data",), by_place(groups, PAIRS, rows_of))


def _pair_row(pair: Pair) -> list[Any]:
    names = (", ".join((row.label, *row.apart.values())) for row in (pair.first, pair.second))
    mean, low, high = pair.difference.mean, pair.difference.low, pair.difference.high
    p = None if low is None else pair.difference.p_holm
    tested = [[points(mean), mean], [interval(low, high), low], [p_value(p), p]]
    return [*names, pair.first.student, *tested, pair.words]


def learning(groups: list[Group], methods: list[str]) -> Section:
    """Every metric of the curves over the epochs, student and baseline, one chart for each pair of networks."""
    lines: dict[tuple[str, str], dict[tuple[Any, ...], Any]] = {}
    for group in groups:
        pair = f"{group.row.student}, {group.row.place}"
        for result in group.row.results:
            own = ALONE if group.row.alone else group.row.method
            for entry, series in ((result.student, own), (result.baseline, ALONE)):
                curve = entry.training.curves if entry else []
                told = (series, group.row.changed, *group.row.apart.values(), f"seed {result.seeds.get('seed')}")
                run = ", ".join(filter(None, told))
                for metric in {key: None for epoch in curve for key in epoch if key not in ("epoch", "seconds")}:
                    known = [epoch for epoch in curve if epoch.get(metric) is not None]
                    epochs, values = ([epoch[key] for epoch in known] for key in ("epoch", metric))
                    lines.setdefault((pair, metric), {}).setdefault((series, *values), (series, run, epochs, values))
    first = {f"val/{group.row.primary.name}" for group in groups}
    order = sorted(lines, key=lambda key: (key[0], key[1] not in first, key[1]))
    views = [view(key, charts=[charts.curves(lines[key].values(), key[1], methods)]) for key in order]
    about = "One line a run; dashed is the student alone. Click a name to hide it, twice to see it alone."
    return section("learning", "Learning curves", about, ("student", "metric"), views)


LIMITS = ("class or bin", "samples", "teacher %", "alone %", "distilled %", "change", "95 % interval", "")


def limits(groups: list[Group]) -> Section:
    """What became of each class and difficulty bin, for each run."""
    views = []
    for group in groups:
        for result in group.row.results:
            found = result.limits
            if not found:
                continue
            run = f"{group.row.place}: {group.label}, seed {result.seeds.get('seed')}"
            parts = {"class": found.classes, "difficulty": found.bins}
            drawn = [charts.limits(rows, what) for what, rows in parts.items() if rows]
            tables = [_limits_table(rows, found.hurt) for rows in parts.values() if rows]
            views.append(view([run], found.sentences, drawn, tables))
    about = (
        "Accuracy of teacher, student alone and distilled student on the same test samples, class by class and by the "
        "teacher's margin between its two likeliest answers (small is hard)."
    )
    return section("limits", "What the teacher cannot teach", about, ("run",), views, detail=True)


def _limits_table(rows: list[LimitsLine], hurt: list[str]) -> dict[str, Any]:
    def shown(row: LimitsLine) -> list[Any]:
        shares = [[percent(share, 1), share] for share in (row.teacher, row.alone, row.distilled)]
        bounds = f"{points(row.low, 1)} to {points(row.high, 1)}"
        change = [[points(row.change, 1), row.change], [bounds, row.low]]
        return [row.name, [str(row.samples), row.samples], *shares, *change, "hurt" if row.name in hurt else ""]

    return table(LIMITS, map(shown, rows))


def cost(groups: list[Group]) -> Section:
    """Where the time went, and what it bought."""
    views = []
    for ranking, members in by_ranking(groups).items():
        told = [group for group in members if any(result.cost for result in group.row.results)]
        if not told:
            continue
        times = [_mean_times(group) for group in told]
        parts = {part: [other.get(part, 0) for other in times] for time in times for part in time}
        drawn = [charts.seconds([group.label for group in told], parts)] if parts else []
        views.append(view([ranking], charts=drawn, tables=[table(COSTS, map(_cost_row, told))]))
    about = (
        "Seconds of the student's training by what they were spent on, and the gain in points of top-1 over the student "
        "alone: trained for as many steps, or for as much compute as the teacher took. Means over a method's seeds, with "
        "their 95 % t interval."
    )
    return section("cost", "Cost and return", about, ("data",), views)


def _mean_times(group: Group) -> dict[str, float]:
    """Seconds by part, the mean over the group's runs."""
    found: dict[str, list[float]] = defaultdict(list)
    for result in group.row.results:
        for part, spent in ((result.cost and result.cost.time) or {}).items():
            found[part].append(spent)
    return {part: statistics.fmean(spent) for part, spent in found.items()}


COSTS = ("method", "gain at equal steps", "at equal compute, live teacher", "with a warm cache", "in words, last seed")


def _cost_row(group: Group) -> list[Any]:
    known = [result.cost for result in group.row.results if result.cost]
    gains = [found.equal_compute for found in known if found.equal_compute]
    keys = ("gain_equal_steps", "gain_live", "gain_warm_cache")
    cells = [_gain_cell([getattr(gain, key) for gain in gains]) for key in keys]
    return [group.label, *cells, " ".join(words(known[-1]))]


def _gain_cell(gains: Iterable[float | None]) -> list[Any]:
    known = [gain for gain in gains if gain is not None]
    if len(set(known)) < 2:  # without a spread there is no interval
        value = statistics.fmean(known) if known else None
        return [points(value), value]
    value, _, low, high = mean_interval(known)
    return [f"{points(value)} ({points(low)} to {points(high)})", value]
