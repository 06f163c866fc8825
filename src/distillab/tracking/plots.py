"""Accuracy against parameter count: what each strategy made of each student."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.files import replacing
from distillab.tracking.result import method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

# Okabe and Ito's palette, told apart with every kind of colour vision; yellow is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# One more marker than colours, so that the pairs repeat only after 42 strategies.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, GREY, LINE, PALE = "#222222", "#7F7F7F", "#B5B5B5", "#E6E6E6"
ALONE, TEACHER = "student alone", "teacher"
MILLION = 1e6

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "distillab",
}

Point = tuple[str, float, float]  # model name, parameters in millions, top-1 in percent


def accuracy_against_parameters(results: list[dict[str, Any]], path: Path) -> list[Path]:
    """Draw top-1 against deployed parameters, one panel per data set and protocol, as PNG and SVG.

    Args:
        results: at least one, as `reading.load_all` gives them.
        path: where to; its suffix is replaced by `.png` and `.svg`.

    Returns:
        The two files, each written atomically.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        drawing = figure(results)
        paths = [path.with_suffix(".png"), path.with_suffix(".svg")]
        for target in paths:
            with replacing(target) as temporary:
                form = target.suffix[1:]
                # Without a date an unchanged plot is an unchanged file.
                metadata = {"Date": None} if form == "svg" else None
                drawing.savefig(temporary, format=form, dpi=200, facecolor="white", metadata=metadata)
    return paths


def figure(results: list[dict[str, Any]]) -> Figure:
    """The same as a matplotlib figure that belongs to no window, so that nothing has to be closed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        panels.setdefault((result["data"]["name"], result["protocol"]), []).append(result)
    strategies = sorted({method(result) for result in results} - {"none"})
    columns = min(2, len(panels))
    rows = ceil(len(panels) / columns)
    drawing = Figure(figsize=(1.9 + 5.3 * columns, 4.3 * rows), layout="constrained")
    drawing.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.05)
    FigureCanvasAgg(drawing)
    axes = list(drawing.subplots(rows, columns, squeeze=False).flat)
    labels = []
    for place, (title, members) in zip(axes, sorted(panels.items()), strict=False):
        labels.append((place, _panel(place, title, members, strategies)))
    for place in axes[len(panels) :]:
        place.remove()
    entries = {}
    for place in drawing.axes:
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    order = [name for name in (TEACHER, *strategies, ALONE) if name in entries]
    drawing.legend(
        [entries[name] for name in order], order, loc="outside right upper", frameon=False, handletextpad=0.2
    )
    # Only a laid-out figure knows where its points lie; placing labels then moves nothing else.
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    for place, wanted in labels:
        _place_labels(place, wanted)
    return drawing


def _panel(axes: Axes, title: tuple[str, str], results: list[dict[str, Any]], strategies: list[str]) -> list[Point]:
    """Draw one panel; returns the points that want their model's name beside them."""
    teachers = _points(results, lambda result: result.get("teacher"))
    alone = _points(results, lambda result: result.get("student" if result["strategy"] == "none" else "baseline"))
    distilled = [result for result in results if result["strategy"] != "none"]
    _dress(axes, title, teachers + alone + _points(distilled, lambda result: result["student"]))
    _scatter(
        axes, alone, 0, label=ALONE, marker="o", s=52, facecolors="white", edgecolors=GREY, linewidths=1.5, zorder=3
    )
    beside: dict[str, set[str]] = {}
    for result in distilled:
        beside.setdefault(result["student"]["name"], set()).add(method(result))
    for result in distilled:
        student, strategy = _point(result["student"]), method(result)
        others = sorted(beside[student[0]])
        step = min(10.0, 60 / len(others))
        shift = step * (others.index(strategy) - (len(others) - 1) / 2)
        place = strategies.index(strategy)
        look = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        if result.get("baseline"):
            _, x, y = _point(result["baseline"])
            axes.plot(
                [x, student[1]], [y, student[2]], color=LINE, linewidth=1.2, zorder=2, transform=_moved(axes, shift)
            )
            level = step * (len(others) - 1)
            _scatter(
                axes, [_point(result["baseline"])], 0, marker="_", s=level**2, color=LINE, linewidths=1.2, zorder=2
            )
        _scatter(axes, [student], shift, label=strategy, s=58, edgecolors="white", linewidths=0.8, zorder=4, **look)
    _scatter(
        axes, teachers, 0, label=TEACHER, marker="*", s=190, color=INK, edgecolors="white", linewidths=0.8, zorder=4
    )
    return teachers + _topmost(alone + _points(distilled, lambda result: result["student"]))


def _moved(axes: Axes, shift: float) -> Transform:
    """Data coordinates moved sideways on paper: strategies of one student stand side by side, their data stays true."""
    from matplotlib.transforms import ScaledTranslation

    return axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)


def _point(model: dict[str, Any]) -> Point:
    return model["name"], model["parameters"] / MILLION, 100 * model["top1"]


def _points(results: list[dict[str, Any]], role: Callable[[dict[str, Any]], dict[str, Any] | None]) -> list[Point]:
    """The points of one role, each once though many runs share a teacher or a baseline."""
    return list(dict.fromkeys(_point(model) for result in results if (model := role(result))))


def _topmost(points: Iterable[Point]) -> list[Point]:
    best: dict[str, Point] = {}
    for point in points:
        if point[0] not in best or point[2] > best[point[0]][2]:
            best[point[0]] = point
    return list(best.values())


def _scatter(axes: Axes, points: list[Point], shift: float, **look: Any) -> None:
    if points:
        axes.scatter([x for _, x, _ in points], [y for _, _, y in points], transform=_moved(axes, shift), **look)


def _dress(axes: Axes, title: tuple[str, str], points: list[Point]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_xscale("log")
    low, high = min(x for _, x, _ in points), max(x for _, x, _ in points)
    axes.set_xlim(low / 1.9, high * 1.9)
    low, high = min(y for *_, y in points), max(y for *_, y in points)
    margin = max(0.12 * (high - low), 0.4)
    axes.set_ylim(low - margin, high + 1.3 * margin)
    # Within a decade or so, 1-2-5 steps; powers of ten alone would leave a narrow axis with one number or none.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.tick_params(which="both", length=0, colors="#555555")
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#BBBBBB")
    axes.set_xlabel("parameters, millions (log)", color=INK)
    axes.set_ylabel("top-1 on test, %", color=INK)
    data, protocol = title
    name = data if protocol == "standard" else f"{data}, protocol {protocol}"
    axes.set_title(name, loc="left", fontweight="bold", color=INK)


def _place_labels(axes: Axes, points: list[Point]) -> None:
    """Write each name at the first place around its point that is free; if none is, at the one that hides least."""
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    dot = axes.figure.dpi / 72
    marks = [
        Bbox.from_bounds(x - 5 * dot, y - 5 * dot, 10 * dot, 10 * dot)
        for points_drawn in axes.collections
        for x, y in points_drawn.get_offset_transform().transform(points_drawn.get_offsets())
    ]
    marks += [Bbox(line.get_transform().transform(line.get_xydata())).padded(dot) for line in axes.lines]
    names: list[Bbox] = []
    for name, x, y in sorted(points, key=lambda point: -point[2]):
        choices = []
        for reach in (8, 19, 31):
            for right, up in _DIRECTIONS:
                label = axes.annotate(
                    name,
                    (x, y),
                    (reach * right, reach * up),
                    textcoords="offset points",
                    ha=("right", "center", "left")[right + 1],
                    va=("top", "center", "bottom")[up + 1],
                    color=INK,
                    fontsize=9,
                    zorder=5,
                )
                box = label.get_window_extent(renderer)
                # A name over a name is unreadable; over a stem or a marker it is only ugly.
                hidden = sum(_overlap(box, mark) for mark in marks) + 10 * sum(_overlap(box, other) for other in names)
                choices.append((hidden + 10 * (box.width * box.height - _overlap(box, axes.bbox)), label, box))
        _, label, box = min(choices, key=lambda choice: choice[0])
        for _, other, _ in choices:
            if other is not label:
                other.remove()
        names.append(box)


# Right and up, the best-looking place first.
_DIRECTIONS = ((0, 1), (1, 0), (-1, 0), (1, 1), (-1, 1), (0, -1), (1, -1), (-1, -1))


def _overlap(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0
