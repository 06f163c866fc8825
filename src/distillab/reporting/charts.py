"""The models that the accuracy charts show, also as pictures, and the report's charts as the dicts that plotly.js draws."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from distillab.core.result_parts import Entry, LimitsLine
from distillab.evaluation.payback import machine
from distillab.evaluation.statistics import mean_interval
from distillab.reporting import looks
from distillab.reporting.looks import ALONE, FRONTS, TEACHER
from distillab.reporting.metric_table import METRICS, PLOTTED, Metric, metric
from distillab.reporting.ranking import non_dominated
from distillab.reporting.rows import Row, mean

Chart = dict[str, Any]
Trace = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One model: `series` is its method, `ALONE` or `TEACHER`; `score` is its primary figure.

    `machine` is where it was timed; `low` and `high` bound the 95 % interval of the mean over seeds; `baseline` is the
    mean of the same student alone; `sign` is 1 where a higher score is better, else -1.
    """

    series: str
    name: str
    note: str
    costs: Mapping[str, float | None]
    machine: str
    score: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    sign: int = 1

    @property
    def family(self) -> str:
        """Whose front it may lie on: a key of `FRONTS`."""
        return self.series if self.series in FRONTS else "distilled"


def points(rows: list[Row]) -> list[Point]:
    """The models of one data set and protocol."""
    found = []
    for row in rows:
        costs = {key: row.figure(key) for key in PLOTTED}
        note = ", ".join((f"seeds {', '.join(map(str, row.seeds))}", *row.apart.values()))
        series, alone = (ALONE, None) if row.alone else (row.method, row.figure(row.primary.name, "baseline"))
        interval = {"low": row.low, "high": row.high, "baseline": alone, "sign": row.sign}
        found.append(Point(series, row.student, note, costs, row.measured_on, row.mean, **interval))
    return found + _shared(rows)


def _shared(rows: list[Row]) -> list[Point]:
    """Teachers and baselines: many rows share one, and it is one point. A baseline that has runs of its own is left out."""
    own = {row.lesson for row in rows if row.alone}
    shared: dict[tuple[Any, ...], list[tuple[Any, float, Entry]]] = {}
    for row, result in ((one, result) for one in rows for result in one.results):
        if teacher := result.teacher:
            score = result.score("teacher")
            key = (TEACHER, teacher.name, teacher.efficiency.parameters, score)
            shared.setdefault(key, []).append((None, score, teacher))
        if baseline := result.baseline:
            score, epochs = result.score("baseline"), row.epochs and (baseline.training.epochs or row.epochs)
            lesson = replace(row, student=baseline.name, epochs=epochs).lesson
            # Two methods on one seed share one trained baseline, which must not count twice.
            training = baseline.training.checkpoints or (result.seeds.get("seed"), score)
            if lesson not in own:
                shared.setdefault((ALONE, baseline.name, lesson), []).append((training, score, baseline))
    found = []
    for (series, name, *_), made in shared.items():
        entries = [entry for *_, entry in made]
        score, _, low, high = mean_interval(list({training: score for training, score, _ in made}.values()))
        costs, place = {key: mean(entries, key) for key in PLOTTED}, machine(entries[0].efficiency)
        found.append(Point(series, name, "", costs, place, score, low, high, sign=rows[0].sign))
    return found


def front(points: list[Point], family: str, cost: str) -> list[tuple[float, float]]:
    """Cost and score of a family's points that none of it beats, the cheapest first.

    Empty for latencies of several machines, which do not compare, and where one point is all.
    """
    members = [point for point in points if point.family == family and point.costs.get(cost)]
    if cost == "latency_ms" and len({point.machine for point in members}) > 1:
        return []
    marks = non_dominated([(point.costs[cost], point.sign * point.score) for point in members])
    steps = sorted({(point.costs[cost], point.score) for point, on in zip(members, marks, strict=True) if on})
    return steps if len(steps) > 1 else []


def text(value: Any) -> str:
    """A name for plotly, which reads a few HTML tags."""
    return escape(str(value), quote=False)


def accuracy(models: list[Point], cost: str, methods: list[str], shown: Metric) -> Chart | None:
    """The primary figure against one of `COSTS`, on a logarithmic axis, with the fronts; None where no model has it.

    `models` are of one data set and protocol; `methods` are all of the report, which fixes their colours.
    """
    known = [model for model in models if model.costs.get(cost)]
    if not known:
        return None
    traces = []
    for family, (name, colour, dash, _) in FRONTS.items():
        if steps := [(x, shown.scale * score) for x, score in front(known, family, cost)]:
            line = {"color": colour, "dash": dash, "width": 1.5, "shape": "hv"}
            traces.append(_lines(name, steps, line, hoverinfo="skip"))
    for series in (*methods, ALONE, TEACHER):
        if members := [model for model in known if model.series == series]:
            colour, symbol, _ = looks.look(series, methods)
            traces.append(_models(members, cost, shown, {"color": colour, "symbol": symbol}))
    xaxis = {"type": "log", "dtick": "D2"} | _title(f"{looks.COSTS[cost]} (log)")
    return _chart(traces, {"xaxis": xaxis, "yaxis": _title(shown.axis)}, height=480)


def _models(models: list[Point], cost: str, shown: Metric, look: dict[str, str]) -> Trace:
    """One series: what a model says where the mouse is over it, and its interval."""
    series, tops, form = models[0].series, [shown.scale * model.score for model in models], METRICS[cost].form
    bounds = [None if None in (p.low, p.high) else (shown.scale * p.low, shown.scale * p.high) for p in models]
    words = [
        f"<b>{text(model.name)}</b>, {text(series)}<br>{shown.words(model.score)}, {form(model.costs[cost])}"
        f"<br>{text(model.note)}"
        for model in models
    ]
    above = [b and b[1] - top for b, top in zip(bounds, tops, strict=True)]
    below = [b and top - b[0] for b, top in zip(bounds, tops, strict=True)]
    bars = {"type": "data", "array": above, "arrayminus": below, "color": look["color"], "thickness": 1, "width": 3}
    places = {"x": [model.costs[cost] for model in models], "y": tops}
    marker = look | {"size": 14 if series == TEACHER else 10}
    return _markers(series, places, marker, text=words, hovertemplate="%{text}<extra></extra>", error_y=bars)


def curves(lines: Iterable[tuple[str, str, list[float], list[float]]], name: str, methods: list[str]) -> Chart | None:
    """One metric, as `val/nll`, over the epochs; None without a line.

    A line has its series (a method or `ALONE`), what to call the run, epochs and values.
    """
    shown, traces, seen = metric(name.rpartition("/")[2]), [], set()
    for series, run, epochs, values in lines:
        colour, *_ = looks.look(series, methods)
        scaled = [None if value is None else value * shown.scale for value in values]
        line = {"color": colour, "width": 1.6, "dash": "dash" if series == ALONE else "solid"}
        told = {"hovertemplate": f"{text(run)}<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>"}
        told |= {"legendgroup": series, "showlegend": series not in seen}
        traces.append(_lines(series, zip(epochs, scaled, strict=True), line, **told))
        seen.add(series)
    layout = {"xaxis": _title("epoch"), "yaxis": _title(f"{name}, %" if shown.scale == 100 else name)}
    return _chart(traces, layout, height=400) if traces else None


def limits(rows: list[LimitsLine], what: str) -> Chart:
    """Accuracy of teacher, student alone and distilled student for each class or difficulty bin; `what` names the axis."""
    traces = []
    for role, name in (("teacher", TEACHER), ("alone", ALONE), ("distilled", "student distilled")):
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


def _lines(name: str, steps: Iterable[tuple[float, float | None]], line: dict[str, Any], **more: Any) -> Trace:
    xs, ys = zip(*steps, strict=True)
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
