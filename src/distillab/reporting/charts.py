"""The report's interactive charts, each as the plain dict that plotly.js draws."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from distillab.reporting.chart_points import ALONE, FAMILIES, TEACHER, Point, front
from distillab.reporting.metric_table import METRICS, Metric, metric
from distillab.reporting.plots import COLOURS, GREY, INK, LINE, PALE

if TYPE_CHECKING:
    from distillab.core.result_parts import LimitsLine

Chart = dict[str, Any]
Trace = dict[str, Any]

# The axis of each cost that a score is plotted against.
COSTS = {
    "parameters": "parameters",
    "multiply_adds": "multiply-adds of one sample",
    "latency_ms": "latency of one sample, ms",
}
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
FRONTS = {"distilled": (INK, "solid"), ALONE: (GREY, "dash"), TEACHER: (LINE, "dot")}
ROLES = {"teacher": INK, "alone": GREY, "distilled": COLOURS[0]}


def text(value: Any) -> str:
    """A name as plotly shall show it: it reads a few HTML tags."""
    return escape(str(value), quote=False)


def look(series: str, methods: list[str]) -> tuple[str, str]:
    """A series' colour and marker, the same in every chart."""
    if series in (ALONE, TEACHER):
        return {ALONE: (GREY, "circle-open"), TEACHER: (INK, "star")}[series]
    place = methods.index(series)
    return COLOURS[place % len(COLOURS)], SYMBOLS[place % len(SYMBOLS)]


def accuracy(points: list[Point], cost: str, methods: list[str], primary: str) -> Chart | None:
    """The primary figure against one cost, on a logarithmic axis, with the fronts of distilled students, students alone and teachers.

    Args:
        points: of one data set and protocol.
        cost: a key of `COSTS`.
        methods: all methods of the report, which fixes their colours.
        primary: the figure's name.

    Returns:
        The chart; None where no point has that cost.
    """
    known = [point for point in points if point.costs.get(cost)]
    if not known:
        return None
    shown, traces = metric(primary), []
    for family, (colour, dash) in FRONTS.items():
        steps = [(x, shown.scale * score) for x, score in front(known, family, cost)]
        if len(steps) > 1:
            line = {"color": colour, "dash": dash, "width": 1.5, "shape": "hv"}
            traces.append(_lines(f"front: {FAMILIES[family]}", steps, line, hoverinfo="skip"))
    for series in (*methods, ALONE, TEACHER):
        members = [point for point in known if point.series == series]
        if members:
            traces.append(_markers(series, members, cost, methods, shown))
    layout = {
        "xaxis": {"type": "log", "dtick": "D2", "title": {"text": f"{COSTS[cost]} (log)"}},
        "yaxis": {"title": {"text": shown.axis}},
    }
    return _chart(traces, layout, height=480)


def _markers(series: str, points: list[Point], cost: str, methods: list[str], shown: Metric) -> Trace:
    colour, symbol = look(series, methods)
    tops, form = [shown.scale * point.score for point in points], METRICS[cost].form
    bounds = [None if None in (p.low, p.high) else (shown.scale * p.low, shown.scale * p.high) for p in points]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": text(series),
        "x": [point.costs[cost] for point in points],
        "y": tops,
        "text": [
            f"<b>{text(point.name)}</b>, {text(series)}<br>{shown.form(point.score)} {shown.unit}, {form(point.costs[cost])}"
            f"<br>{text(point.note)}"
            for point in points
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": colour, "symbol": symbol, "size": 14 if series == TEACHER else 10},
        "error_y": {
            "type": "data",
            "array": [b and b[1] - top for b, top in zip(bounds, tops, strict=True)],
            "arrayminus": [b and top - b[0] for b, top in zip(bounds, tops, strict=True)],
            "color": colour,
            "thickness": 1,
            "width": 3,
        },
    }


def curves(lines: Iterable[tuple[str, str, list[float], list[float]]], name: str, methods: list[str]) -> Chart | None:
    """One metric over the epochs, one line a run.

    Args:
        lines: series (a method or `ALONE`), what to call the run, epochs, values.
        name: of the metric in the curves, as `val/nll`.
        methods: all methods of the report, which fixes their colours.

    Returns:
        The chart; None without a line.
    """
    shown, traces, seen = metric(name.rpartition("/")[2]), [], set()
    for series, run, epochs, values in lines:
        colour, _ = look(series, methods)
        scaled = [None if value is None else value * shown.scale for value in values]
        line = {"color": colour, "width": 1.6, "dash": "dash" if series == ALONE else "solid"}
        trace = _lines(
            series, zip(epochs, scaled, strict=True), line, legendgroup=series, showlegend=series not in seen
        )
        traces.append(trace | {"hovertemplate": f"{text(run)}<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>"})
        seen.add(series)
    title = f"{name}, %" if shown.scale == 100 else name
    layout = {"xaxis": {"title": {"text": "epoch"}}, "yaxis": {"title": {"text": title}}}
    return _chart(traces, layout, height=400) if traces else None


def limits(rows: list[LimitsLine], what: str) -> Chart:
    """Accuracy of teacher, student alone and distilled student for each class or difficulty bin.

    Args:
        rows: as `limits` of a result holds them, accuracies from 0 to 1.
        what: the axis' title.
    """
    names = [text(row.name) for row in rows]
    traces = []
    for role, colour in ROLES.items():
        values = [100 * getattr(row, role) for row in rows]
        symbol = {"teacher": "star", "alone": "circle-open", "distilled": "circle"}[role]
        trace = {"type": "scatter", "mode": "markers", "name": role if role == "teacher" else f"student {role}"}
        traces.append(trace | {"x": names, "y": values, "marker": {"color": colour, "symbol": symbol, "size": 10}})
    xaxis = {"type": "category", "title": {"text": what}}
    layout = {"xaxis": xaxis, "yaxis": {"title": {"text": "accuracy, %"}}}
    return _chart(traces, layout, height=380)


def seconds(names: list[str], parts: dict[str, list[float]]) -> Chart:
    """Where the time went: one bar a run, one colour a part.

    Args:
        names: of the runs.
        parts: part → seconds, one number a run.
    """
    traces = [
        {"type": "bar", "orientation": "h", "name": text(part), "y": list(map(text, names)), "x": values}
        | {
            "marker": {"color": COLOURS[place % len(COLOURS)]},
            "hovertemplate": f"{text(part)}: %{{x:.1f}} s<extra></extra>",
        }
        for place, (part, values) in enumerate(parts.items())
    ]
    layout = {"barmode": "stack", "xaxis": {"title": {"text": "seconds"}}}
    layout["yaxis"] = {"automargin": True, "autorange": "reversed", "type": "category"}
    return _chart(traces, layout, height=150 + 32 * len(names))


def _lines(name: str, points: Iterable[tuple[float, float | None]], line: dict[str, Any], **more: Any) -> Trace:
    xs, ys = zip(*points, strict=True)
    return {"type": "scatter", "mode": "lines", "name": text(name), "x": list(xs), "y": list(ys), "line": line, **more}


def _chart(traces: list[Trace], layout: dict[str, Any], height: int) -> Chart:
    """The traces under the look that all charts share, checked by plotly."""
    from plotly.graph_objects import Figure

    axis = {"gridcolor": PALE, "zeroline": False, "linecolor": "#BBBBBB", "automargin": True}
    drawing = Figure(traces, layout, layout_template="none")
    drawing.update_layout(
        height=height,
        margin={"l": 60, "r": 40, "t": 15, "b": 50},
        font={"family": "system-ui, Helvetica, Arial, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"bgcolor": "white"},
        modebar={"orientation": "v"},  # a horizontal one covers the legend
    )
    drawing.update_xaxes(axis)
    drawing.update_yaxes(axis)
    return json.loads(drawing.to_json())
