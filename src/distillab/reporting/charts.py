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


def accuracy(points: list[Point], cost: str, methods: list[str], shown: Metric) -> Chart | None:
    """The primary figure against one of `COSTS`, on a logarithmic axis, with the fronts; None where no point has it.

    `points` are of one data set and protocol; `methods` are all of the report, which fixes their colours.
    """
    known = [point for point in points if point.costs.get(cost)]
    if not known:
        return None
    traces = []
    for family, (name, colour, dash, _) in looks.FRONTS.items():
        if steps := [(x, shown.scale * score) for x, score in front(known, family, cost)]:
            line = {"color": colour, "dash": dash, "width": 1.5, "shape": "hv"}
            traces.append(_lines(name, steps, line, hoverinfo="skip"))
    for series in (*methods, looks.ALONE, looks.TEACHER):
        if members := [point for point in known if point.series == series]:
            colour, symbol, _ = looks.look(series, methods)
            traces.append(_models(members, cost, shown, {"color": colour, "symbol": symbol}))
    xaxis = {"type": "log", "dtick": "D2"} | _title(f"{looks.COSTS[cost]} (log)")
    return _chart(traces, {"xaxis": xaxis, "yaxis": _title(shown.axis)}, height=480)


def _models(points: list[Point], cost: str, shown: Metric, look: dict[str, str]) -> Trace:
    """One series: what a point says where the mouse is over it, and its interval."""
    series, tops, form = points[0].series, [shown.scale * point.score for point in points], METRICS[cost].form
    bounds = [None if None in (p.low, p.high) else (shown.scale * p.low, shown.scale * p.high) for p in points]
    words = [
        f"<b>{text(point.name)}</b>, {text(series)}<br>{shown.form(point.score)} {shown.unit}, {form(point.costs[cost])}"
        f"<br>{text(point.note)}"
        for point in points
    ]
    above = [b and b[1] - top for b, top in zip(bounds, tops, strict=True)]
    below = [b and top - b[0] for b, top in zip(bounds, tops, strict=True)]
    bars = {"type": "data", "array": above, "arrayminus": below, "color": look["color"], "thickness": 1, "width": 3}
    places = {"x": [point.costs[cost] for point in points], "y": tops}
    marker = look | {"size": 14 if series == looks.TEACHER else 10}
    return _markers(series, places, marker, text=words, hovertemplate="%{text}<extra></extra>", error_y=bars)


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
    layout = {"xaxis": _title("epoch"), "yaxis": _title(f"{name}, %" if shown.scale == 100 else name)}
    return _chart(traces, layout, height=400) if traces else None


def limits(rows: list[LimitsLine], what: str) -> Chart:
    """Accuracy of teacher, student alone and distilled student for each class or difficulty bin; `what` names the axis."""
    traces = []
    for role, name in (("teacher", looks.TEACHER), ("alone", looks.ALONE), ("distilled", "student distilled")):
        colour, symbol, _ = looks.LOOKS.get(name, (looks.COLOURS[0], "circle", None))
        places = {"x": [text(row.name) for row in rows], "y": [100 * getattr(row, role) for row in rows]}
        traces.append(_markers(name, places, {"color": colour, "symbol": symbol, "size": 10}))
    layout = {"xaxis": {"type": "category"} | _title(what), "yaxis": _title("accuracy, %")}
    return _chart(traces, layout, height=380)


def seconds(names: list[str], parts: dict[str, list[float]]) -> Chart:
    """Where the time went: one bar a run, one colour a part; `parts` has one number a run for each part."""
    shown = list(map(text, names))
    traces = []
    for place, (part, values) in enumerate(parts.items()):
        bar = {"type": "bar", "orientation": "h", "name": text(part), "y": shown, "x": values}
        bar["marker"] = {"color": looks.COLOURS[place % len(looks.COLOURS)]}
        traces.append(bar | {"hovertemplate": f"{text(part)}: %{{x:.1f}} s<extra></extra>"})
    yaxis = {"automargin": True, "autorange": "reversed", "type": "category"}
    layout = {"barmode": "stack", "xaxis": _title("seconds"), "yaxis": yaxis}
    return _chart(traces, layout, height=150 + 32 * len(names))


def _title(words: str) -> dict[str, Any]:
    return {"title": {"text": words}}


def _lines(name: str, points: Iterable[tuple[float, float | None]], line: dict[str, Any], **more: Any) -> Trace:
    xs, ys = zip(*points, strict=True)
    return {"type": "scatter", "mode": "lines", "name": text(name), "x": list(xs), "y": list(ys), "line": line, **more}


def _markers(name: str, places: dict[str, list[Any]], marker: dict[str, Any], **more: Any) -> Trace:
    return {"type": "scatter", "mode": "markers", "name": text(name), **places, "marker": marker, **more}


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
