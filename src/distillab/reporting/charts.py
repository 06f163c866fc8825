"""The charts of the page and of the pictures beside it: Vega-Lite specifications, made by Altair.

A chart has no size: the page gives it the width of its column, a picture a width of its own, and both the `room` of a legend.
"""

from collections.abc import Sequence
from itertools import groupby
from math import ceil
from typing import Any

import altair as alt

from distillab.reporting import looks
from distillab.reporting.legends import channels, legend
from distillab.reporting.looks import ALONE, INK, LONGER, TEACHER
from distillab.reporting.metric_table import METRICS, Metric, metric
from distillab.reporting.points import Curve, Point, Span, unbeaten
from distillab.reporting.spacing import HEIGHT, NARROW, Scale, name_rows, scale_of, spread

MOST = 60  # points of one curve; more of them nobody sees
# As 78 k, 272 k, 1 M.
SHIFT = alt.ExprRef("datum.shift")
COUNTED = "replace(format(datum.value, '.3~s'), regexp('([kMG])'), ' $1')"


def front(points: Sequence[Point], sign: int = 1) -> list[tuple[float, float]]:
    """`unbeaten` of the students, taught or not; empty for timings of several machines, which do not compare.

    Timings of a busy machine are passed over.
    """
    several = len({point.machine for point in points} - {""}) > 1
    known = [(point.x, point.y) for point in points if point.series != TEACHER and not point.busy]
    return [] if several else unbeaten(known, sign)


def accuracy(
    points: Sequence[Point], cost: str, methods: Sequence[str], shown: Metric, *, width: int = NARROW
) -> alt.LayerChart | None:
    """The figure `shown` against a cost of `METRICS`, on a logarithmic axis, with the front; None without a point.

    `methods` are all of the page, whose order fixes their looks; `width` is the least at which nothing covers another.
    """
    if not points:
        return None
    scale = scale_of(points, width)
    places = {(point.label, point.x): point.x for point in sorted(points, key=lambda point: point.x)}
    rows = name_rows([(name, scale.pixels(x)) for name, x in places])
    named = [{"name": name, "x": x, "row": -10 - 15 * row} for (name, x), row in zip(places, rows, strict=True)]
    steps = [{"x": x, "y": shown.scale * y} for x, y in front(points, -1 if shown.higher_is_better is False else 1)]
    # On to the right edge: whatever lies below the line is beaten, by a front of one point as well.
    line = chart_of([*steps, *({**last, "x": scale.high} for last in steps[-1:])])
    domain = _domain(points, shown)
    unit = {"labelExpr": COUNTED} if cost in ("parameters", "multiply_adds") else {"format": ".3~r"}
    values = scale.apart([*places.values(), *scale.steps()], room=50)
    x = _x(scale, METRICS[cost].axis, values, **unit)
    guides = chart_of(named).mark_rule(color=looks.PALE).encode(x=x)
    names = chart_of(named).mark_text(color=INK, fontSize=12).encode(x=x, text="name:N", y=alt.Y("row:Q", scale=None))
    y = _y(shown, domain)
    line = line.mark_line(interpolate="step-after", color=looks.GREY, strokeWidth=1.2).encode(x=x, y=y)
    marks = _models(points, spread(points, scale, domain), methods, x=x, y=y, domain=domain,
                    words=(METRICS[cost], shown), rows=1 + max(rows))  # fmt: skip
    said = f"{shown.label} against {METRICS[cost].label}; on the front: {_told(points, steps, shown)}."
    return alt.layer(guides, names, line, *marks).properties(description=said)


def budget(
    points: Sequence[Point],
    methods: Sequence[str],
    shown: Metric,
    teachers: Sequence[Point] = (),
    *,
    width: int = NARROW,
) -> alt.LayerChart | None:
    """The figure `shown` of one student over the epochs that it was trained, below its teachers; None without two budgets."""
    epochs = sorted({point.x for point in points})
    if len(epochs) < 2:
        return None
    scale, domain = scale_of(points, width), _domain([*points, *teachers], shown)
    shifted, y = spread(points, scale, domain), _y(shown, domain)
    x = _x(scale, "epochs", scale.apart(epochs, room=22), format="~r")
    # The student trained longer is the student alone: one line leads through both.
    joined = [{"series": ALONE if point.series == LONGER else point.series, "x": point.x, "shift": shift, "y": shown.scale * point.y}
              for point, shift in zip(points, shifted, strict=True)]  # fmt: skip
    scales = channels({point.series for point in points}, methods)
    line = chart_of(joined).mark_line(strokeWidth=1.5, xOffset=SHIFT).encode(x=x, y=y, stroke=scales["stroke"])
    words = Metric("epochs", lambda value: f"{value:g}"), shown
    marks = _models(points, shifted, methods, x=x, y=y, domain=domain, words=words)
    lines = [{"name": f"teacher, {one.label}", "y": shown.scale * one.y} for one in teachers]
    rule = chart_of(lines).mark_rule(color=INK, strokeDash=[5, 3]).encode(y=y)
    names = chart_of(_named(teachers, shown, domain)).mark_text(color=INK, fontSize=12, align="right", dy=-7)
    names = names.encode(x=alt.value("width"), y=y, text="name:N")
    return alt.layer(rule, names, line, *marks).properties(description=f"{shown.label} over the epochs of training.")


def _named(teachers: Sequence[Point], shown: Metric, domain: tuple[float, float]) -> list[dict[str, Any]]:
    """What stands at the highest line of each teacher: its name, and the scores where it has several.

    Teachers so close that their texts would touch stand in one.
    """
    scores: dict[str, list[float]] = {}
    for one in sorted(teachers, key=lambda one: -one.y):
        scores.setdefault(one.label, []).append(one.y)
    found: list[dict[str, Any]] = []
    for name, (highest, *others) in scores.items():
        told = [shown.form(y) for y in (*others[-1:], highest)]
        several = f" ({(' and ' if len(others) == 1 else ' to ').join(told)})" if others else ""
        label, y = f"teacher, {name}{several}", shown.scale * highest
        if found and (found[-1]["y"] - y) * HEIGHT < 14 * shown.scale * (domain[1] - domain[0]):
            found[-1]["name"] += f"; {label}"
        else:
            found.append({"name": label, "y": y})
    return found


def curves(lines: Sequence[Curve], name: str, methods: Sequence[str]) -> alt.Chart | None:
    """One metric, as `val/nll`, over the epochs; None without a line."""
    if not lines:
        return None
    shown = metric(name.rpartition("/")[2])

    def thinned(number: int, line: Curve) -> dict[str, Any]:
        known = list(zip(line.epochs, line.values, strict=True))
        kept = known[:: ceil(len(known) / MOST)]
        xs, ys = zip(*kept, *([known[-1]] if kept[-1] != known[-1] else []), strict=True)
        scaled = [float(f"{shown.scale * y:.4g}") for y in ys]
        return {"line": number, "series": line.series, "run": line.run, "x": xs, "y": scaled}

    scales = channels({line.series for line in lines}, methods)
    chosen = alt.selection_point("chosen", fields=["series"], bind="legend")
    y = alt.Y("y:Q", title=f"{name}, %" if shown.scale == 100 else name, scale=alt.Scale(zero=False))
    longest = max(len(line.epochs) for line in lines)
    made = chart_of([thinned(*line) for line in enumerate(lines)]).transform_flatten(["x", "y"]).mark_line(strokeWidth=1.5).encode(
        x=alt.X("x:Q", title="epoch", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickMinStep=1, tickCount=min(longest, 10), grid=False)),
        y=y, stroke=scales["stroke"], strokeDash=_dashes(lines, methods), detail="line:N",
        opacity=alt.condition(chosen, alt.value(0.85), alt.value(0.08)),
        tooltip=[alt.Tooltip("run:N"), alt.Tooltip("x:Q", title="epoch"), alt.Tooltip("y:Q", title=name)],
    ).add_params(chosen)  # fmt: skip
    return made.properties(description=f"{name} by epoch, one line a run.")


def seconds(spans: Sequence[Span]) -> alt.LayerChart:
    """Where the time went: one bar a run, its name above it, one colour a part."""
    parts, names = (list(dict.fromkeys(getattr(span, key) for span in spans)) for key in ("part", "label"))
    values = [vars(span) | {"place": parts.index(span.part)} for span in spans]
    y = alt.Y("label:N", sort=names, axis=None)
    colour = alt.Scale(domain=parts, range=[looks.COLOURS[n % len(looks.COLOURS)] for n in range(len(parts))])
    bars = chart_of(values).mark_bar(height=12, yOffset=9, stroke="white").encode(
        x=alt.X("seconds:Q", title="seconds", axis=alt.Axis(grid=False, tickCount=6)), y=y, order="place:Q", fill=alt.Fill("part:N", scale=colour, legend=legend(parts)),
        tooltip=["label:N", "part:N", alt.Tooltip("seconds:Q", format=".1f")],
    )  # fmt: skip
    said = chart_of([{"label": name} for name in names]).mark_text(align="left", dy=-7, color=INK, fontSize=12)
    texts = said.encode(y=y, x=alt.value(2), text="label:N")
    return alt.layer(bars, texts).properties(description="Seconds of training by part.", height=42 * len(names))


def _models(points: Sequence[Point], shifted: Sequence[float], methods: Sequence[str], *, x: alt.X, y: alt.Y,
            domain: tuple[float, float], words: tuple[Metric, Metric], rows: int = 0) -> list[alt.Chart]:  # fmt: skip
    """Intervals and markers; the legend chooses what is seen, a marker tells its numbers."""
    cost, shown = words
    values = []
    for point, shift in zip(points, shifted, strict=True):
        told = {"series": point.series, "label": point.label, "x": point.x, "shift": shift, "y": shown.scale * point.y}
        told |= {"score": shown.words(point.y), "cost": cost.form(point.x), "note": point.note}
        if point.low is not None and point.high is not None:
            told |= {"low": shown.scale * max(point.low, domain[0]), "high": shown.scale * min(point.high, domain[1])}
            told["interval"] = f"{shown.form(point.low)} to {shown.form(point.high)}"
        values.append(told)
    scales = channels({point.series for point in points}, methods, rows=rows)
    chosen = alt.selection_point("chosen", fields=["series"], bind="legend")
    seen = alt.condition(chosen, alt.value(1), alt.value(0.08))
    titles = {"label": "model", "series": "method", "score": shown.label, "interval": "95 % interval",
              "cost": cost.label, "note": "runs"}  # fmt: skip
    known = [value for value in values if "low" in value]
    base = chart_of(known).mark_rule(strokeWidth=1.3, xOffset=SHIFT)
    whiskers = base.encode(x=x, y=axis_of(y, "low"), y2="high", stroke=scales["stroke"], opacity=seen)
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in titles.items()]
    size = alt.condition(alt.datum.series == TEACHER, alt.value(110), alt.value(75))
    marks = chart_of(values).mark_point(strokeWidth=1.5, xOffset=SHIFT)
    return [whiskers, marks.encode(x=x, y=y, size=size, opacity=seen, tooltip=tips, **scales).add_params(chosen)]


def _dashes(lines: Sequence[Curve], methods: Sequence[str]) -> alt.StrokeDash:
    names = looks.ordered({line.series for line in lines}, methods)
    return alt.StrokeDash(
        "series:N", scale=alt.Scale(domain=names, range=[[5, 3] if n.startswith(ALONE) else [1, 0] for n in names])
    )


def chart_of(values: list[dict[str, Any]]) -> alt.Chart:
    """A chart that draws from these values."""
    return alt.Chart(alt.Data(values=values))


def axis_of(channel: alt.X | alt.Y, field: str) -> alt.X | alt.Y:
    """The same axis for another field."""
    made = channel.copy()
    made.shorthand = f"{field}:Q"
    return made


def _x(scale: Scale, title: str, values: Sequence[float], **form: str) -> alt.X:
    axis = alt.Axis(values=values, grid=False, labelSeparation=6, **form)
    ends = alt.Scale(type="log", domain=[scale.low, scale.high], nice=False)
    return alt.X("x:Q", scale=ends, axis=axis, title=title)


def _y(shown: Metric, domain: tuple[float, float]) -> alt.Y:
    better = "" if shown.scale == 100 or shown.higher_is_better is not False else ", less is better"
    unit = f", {shown.unit}" if shown.unit else ""
    scale = alt.Scale(domain=[shown.scale * end for end in domain], zero=False, nice=False)
    return alt.Y("y:Q", scale=scale, title=f"{shown.label} on test{unit}{better}", axis=alt.Axis(tickCount=7))


def _domain(points: Sequence[Point], shown: Metric) -> tuple[float, float]:
    """The ends of the scores' axis: a very wide interval runs out of the chart and does not flatten the rest."""
    ys = [point.y for point in points]
    span = max(max(ys) - min(ys), 0.02 if shown.scale == 100 else 0.01 * max(map(abs, ys)))
    low = max(min(point.y if point.low is None else point.low for point in points), min(ys) - span)
    high = min(max(point.y if point.high is None else point.high for point in points), max(ys) + span)
    if shown.scale == 100:
        low, high = max(low, 0), min(high, 1)
    margin = 0.06 * (high - low) or span
    return low - margin, high + margin


def _told(points: Sequence[Point], steps: Sequence[dict[str, float]], shown: Metric) -> str:
    on = {(step["x"], step["y"]) for step in steps}
    best = [p for p in points if (p.x, shown.scale * p.y) in on and p.series != TEACHER]
    named = sorted({(p.x, f"{p.label}, {p.series} ({shown.words(p.y)})") for p in best})
    return "; ".join(next(group)[1] for _, group in groupby(named)) or "none"
