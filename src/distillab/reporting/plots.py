"""Accuracy against cost: what each method made of each student, with the fronts."""

from __future__ import annotations

from itertools import pairwise, product
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from distillab.core.files import replacing
from distillab.core.result import Result
from distillab.reporting import looks
from distillab.reporting.charts import Point, front, points
from distillab.reporting.metric_table import Metric
from distillab.reporting.ranking import by_place, ranked, taught_methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import BboxBase

MILLION = {"parameters": 1e6, "multiply_adds": 1e6}  # the unit of these costs on the axis
SOFT = "#555555"
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "distillab",
}


def accuracy_plot(results: list[Result], path: Path, cost: str = "parameters") -> list[Path]:
    """Draw the primary figure against one of `COSTS`, one panel per data set and protocol, as PNG and SVG.

    A point is the mean over a method's seeds with its 95 % interval; a line leads to it from the student alone. Returns
    the two files, each written atomically; none where no result knows that cost.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        shown = figure(results, cost)
        return [] if shown is None else [save(shown, path.with_suffix(ending)) for ending in (".png", ".svg")]


def save(shown: Figure, target: Path) -> Path:
    """Write a figure atomically, in the format of the file's suffix."""
    form = target.suffix[1:]
    # Without a date an unchanged plot is an unchanged file.
    metadata = {"Date": None} if form == "svg" else None
    with replacing(target) as temporary:
        shown.savefig(temporary, format=form, dpi=200, facecolor="white", metadata=metadata)
    return target


def new_figure(width: float, height: float, **pads: float) -> Figure:
    """A matplotlib figure that belongs to no window, so that nothing has to be closed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height), layout="constrained")
    drawing.get_layout_engine().set(**pads)
    FigureCanvasAgg(drawing)
    return drawing


def plain(axes: Axes) -> None:
    """A grid in place of a frame."""
    axes.tick_params(which="both", length=0)
    axes.grid(color=looks.PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(looks.RULE)


def figure(results: list[Result], cost: str = "parameters") -> Figure | None:
    """The picture of `accuracy_plot`; None without points."""
    rows = ranked(results)
    panels = []
    for title, members in by_place(rows).items():
        if known := [point for point in points(members) if point.costs[cost]]:
            panels.append((title, members[0].metric, known))
    if not panels:
        return None
    methods, across = taught_methods(rows), min(2, len(panels))
    down = ceil(len(panels) / across)
    drawing = new_figure(1.9 + 5.3 * across, 4.3 * down, w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.05)
    axes = list(drawing.subplots(down, across, squeeze=False).flat)
    labels, entries = [], {}
    for panel, (title, shown, known) in zip(axes, panels, strict=False):
        _dress(panel, known, cost, shown)
        panel.set_title(title.removesuffix(", protocol standard"), loc="left", fontweight="bold", color=looks.INK)
        labels.append((panel, _panel(panel, known, cost, methods, scale=shown.scale)))
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for panel in axes[len(panels) :]:
        panel.remove()
    fronts = (name for name, *_ in looks.FRONTS.values())
    order = [name for name in (looks.TEACHER, *methods, looks.ALONE, *fronts) if name in entries]
    handles = [entries[name] for name in order]
    drawing.legend(handles, order, loc="outside right upper", frameon=False, handletextpad=0.2)
    # Only a laid-out figure knows where its points lie; placing labels then moves nothing else.
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    for panel, wanted in labels:
        _place_labels(panel, wanted)
    return drawing


Named = tuple[str, float, float]  # model name, cost and score in the axes' units


def _panel(axes: Axes, found: list[Point], cost: str, methods: list[str], *, scale: int) -> list[Named]:
    """Draw one panel; returns the points that want their model's name beside them."""
    from matplotlib.transforms import offset_copy

    unit = MILLION.get(cost, 1.0)
    for family, (name, colour, _, style) in looks.FRONTS.items():
        if steps := [(x / unit, scale * score) for x, score in front(found, family, cost)]:
            line = {"color": colour, "linestyle": style, "linewidth": 1.2, "zorder": 1.5}
            axes.plot(*zip(*steps, strict=True), drawstyle="steps-post", label=name, **line)
    named = []
    for point in found:
        x, y = point.costs[cost] / unit, scale * point.score
        beside = sorted({other.series for other in found if other.family == "distilled" and other.name == point.name})
        place = beside.index(point.series) - (len(beside) - 1) / 2 if point.series in beside else 0
        # The methods of one student stand side by side on paper: what is drawn moves, its data stays true.
        shift = min(10.0, 60 / max(len(beside), 1)) * place
        moved = offset_copy(axes.transData, axes.figure, x=shift, units="points")
        if point.baseline is not None:
            axes.plot([x, x], [scale * point.baseline, y], color=looks.LINE, linewidth=1.2, zorder=2, transform=moved)
        colour, _, marker = looks.look(point.series, methods)
        if point.low is not None and point.high is not None:
            ends = [scale * point.low, scale * point.high]
            axes.plot([x, x], ends, "_-", color=colour, linewidth=1, markersize=5, zorder=3, transform=moved)
        dot = {"s": 58, "color": colour, "edgecolors": "white", "linewidths": 0.8}
        if point.series == looks.ALONE:
            dot = {"s": 52, "facecolors": "white", "edgecolors": colour, "linewidths": 1.5}
        elif point.series == looks.TEACHER:
            dot["s"] = 190
        axes.scatter([x], [y], label=point.series, marker=marker, transform=moved, zorder=4, **dot)
        named.append(((point.series == looks.TEACHER, point.name), (point.name, x, y)))
    return list(dict(sorted(named, key=lambda one: one[1][2])).values())  # of one model's points the highest


def _dress(axes: Axes, found: list[Point], cost: str, shown: Metric) -> None:
    """Scales, limits and titles of the axes of a panel that holds these points."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    unit = MILLION.get(cost, 1.0)
    xs = [point.costs[cost] / unit for point in found]
    ends = (end for point in found for end in (point.score, point.low, point.high, point.baseline))
    ys = [shown.scale * end for end in ends if end is not None]
    axes.set_xscale("log")
    axes.set_xlim(min(xs) / 1.9, max(xs) * 1.9)
    margin = max(0.12 * (max(ys) - min(ys)), 0.4 if shown.scale == 100 else 0.004 * max(map(abs, ys)))
    axes.set_ylim(min(ys) - margin, max(ys) + 1.3 * margin)
    # Within a decade or so, 1-2-5 steps; powers of ten alone would leave a narrow axis with one number or none.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    plain(axes)
    axes.tick_params(which="both", colors=SOFT)
    axes.set_xlabel(f"{looks.COSTS[cost]}{', millions' if cost in MILLION else ''} (log)", color=looks.INK)
    direction = "" if shown.scale == 100 or shown.higher_is_better is not False else "less is better"
    axes.set_ylabel(", ".join(filter(None, (f"{shown.label} on test", shown.unit, direction))), color=looks.INK)


def _place_labels(axes: Axes, points: list[Named]) -> None:
    """Write each name at the first place around its point that is free; if none is, at the one that hides least."""
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    dot = axes.figure.dpi / 72
    marks = [
        Bbox.from_bounds(x - 5 * dot, y - 5 * dot, 10 * dot, 10 * dot)
        for points_drawn in axes.collections
        for x, y in points_drawn.get_offset_transform().transform(points_drawn.get_offsets())
    ]
    for line in axes.lines:  # a front has any number of points
        marks += [Bbox(ends).padded(dot) for ends in pairwise(line.get_transform().transform(line.get_xydata()))]
    names: list[Bbox] = []
    look = {"textcoords": "offset points", "color": looks.INK, "fontsize": 9, "zorder": 5}
    for name, x, y in sorted(points, key=lambda point: -point[2]):
        choices = []
        for reach, (right, up) in product((8, 19, 31), _DIRECTIONS):
            aligned = {"ha": ("right", "center", "left")[right + 1], "va": ("top", "center", "bottom")[up + 1]}
            label = axes.annotate(name, (x, y), (reach * right, reach * up), **aligned, **look)
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


def _overlap(one: BboxBase, other: BboxBase) -> float:
    shared = one.intersection(one, other)
    return shared.width * shared.height if shared else 0.0
