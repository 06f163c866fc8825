"""The report's interactive charts, each as the plain dict that plotly.js draws."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from distillab.core.result_parts import LimitsLine
from distillab.reporting import looks
from distillab.reporting.chart_points import Point, front
from distillab.reporting.metric_table import METRICS, Metric, metric

Chart = dict[str, Any]
Trace = dict[str, Any]


def text(value: Any) -> str:
    """A name for plotly, which reads a few HTML tags."""
    return escape(str(value), quote=False)


def accuracy(points: list[Point], cost: str, methods: list[str], primary: str) -> Chart | None:
    """The primary figure against one of `COSTS`, on a logarithmic axis, with the fronts; None where no point has it.

    `points` are of one data set and protocol; `methods` are all of the report, which fixes their colours.
    """
    known = [point for point in points if point.costs.get(cost)]
    if not known:
        return None
    shown, traces = metric(primary), []
    for family, (name, colour, dash, _) in looks.FRONTS.items():
        steps = [(x, shown.scale * score) for x, score in front(known, family, cost)]
        if len(steps) > 1:
            line = {"color": colour, "dash": dash, "width": 1.5, "shape": "hv"}
            traces.append(_lines(name, steps, line, hoverinfo="skip"))
    for series in (*methods, looks.ALONE, looks.TEACHER):
        members = [point for point in known if point.series == series]
        if members:
            traces.append(_markers(series, members, cost, methods, shown))
    layout = {
        "xaxis": {"type": "log", "dtick": "D2", "title": {"text": f"{looks.COSTS[cost]} (log)"}},
        "yaxis": {"title": {"text": shown.axis}},
    }
    return _chart(traces, layout, height=480)


def _markers(series: str, points: list[Point], cost: str, methods: list[str], shown: Metric) -> Trace:
    colour, symbol, _ = looks.look(series, methods)
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
        "marker": {"color": colour, "symbol": symbol, "size": 14 if series == looks.TEACHER else 10},
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
    """One metric, as `val/nll`, over the epochs; None without a line.

    A line has its series (a method or `ALONE`), what to call the run, epochs and values.
    """
    shown, traces, seen = metric(name.rpartition("/")[2]), [], set()
    for series, run, epochs, values in lines:
        colour, *_ = looks.look(series, methods)
        scaled = [None if value is None else value * shown.scale for value in values]
        line = {"color": colour, "width": 1.6, "dash": "dash" if series == looks.ALONE else "solid"}
        told = {"hovertemplate": f"{text(run)}<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>"}
        told |= {"legendgroup": series, "showlegend": series not in seen}
        traces.append(_lines(series, zip(epochs, scaled, strict=True), line, **told))
        seen.add(series)
    title = f"{name}, %" if shown.scale == 100 else name
    layout = {"xaxis": {"title": {"text": "epoch"}}, "yaxis": {"title": {"text": title}}}
    return _chart(traces, layout, height=400) if traces else None


def limits(rows: list[LimitsLine], what: str) -> Chart:
    """Accuracy of teacher, student alone and distilled student for each class or difficulty bin; `what` names the axis."""
    traces = []
    for role, name in (("teacher", looks.TEACHER), ("alone", looks.ALONE), ("distilled", "student distilled")):
        colour, symbol, _ = looks.LOOKS.get(name, (looks.COLOURS[0], "circle", None))
        places = {"x": [text(row.name) for row in rows], "y": [100 * getattr(row, role) for row in rows]}
        marker = {"color": colour, "symbol": symbol, "size": 10}
        traces.append({"type": "scatter", "mode": "markers", "name": name, **places, "marker": marker})
    xaxis = {"type": "category", "title": {"text": what}}
    layout = {"xaxis": xaxis, "yaxis": {"title": {"text": "accuracy, %"}}}
    return _chart(traces, layout, height=380)


def seconds(names: list[str], parts: dict[str, list[float]]) -> Chart:
    """Where the time went: one bar a run, one colour a part; `parts` has one number a run for each part."""
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": text(part),
            "y": list(map(text, names)),
            "x": values,
            "marker": {"color": looks.COLOURS[place % len(looks.COLOURS)]},
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

    axis = {"gridcolor": looks.PALE, "zeroline": False, "linecolor": looks.RULE, "automargin": True}
    drawing = Figure(traces, layout, layout_template="none")
    drawing.update_layout(
        height=height,
        margin={"l": 60, "r": 40, "t": 15, "b": 50},
        font={"family": "system-ui, Helvetica, Arial, sans-serif", "size": 13, "color": looks.INK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"bgcolor": "white"},
        modebar={"orientation": "v"},  # a horizontal one covers the legend
    )
    drawing.update_xaxes(axis)
    drawing.update_yaxes(axis)
    return json.loads(drawing.to_json())
