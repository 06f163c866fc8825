"""What the teacher cannot teach, as a picture: teacher, student alone and distilled, class by class and by difficulty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distillab.core.result_parts import Limits, LimitsLine
from distillab.reporting import looks
from distillab.reporting.plots import SOFT, STYLE, new_figure, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 20  # classes; more lines than that nobody reads
NAME = 28  # characters of a class's name
DISTILLED, HURT = looks.COLOURS[0], looks.COLOURS[1]


def limits_picture(limits: Limits, path: Path) -> Path:
    """Draw `limits` as one PNG at `path` with that suffix: left per class, right per bin of the teacher's margin."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return save(figure(limits), path.with_suffix(".png"))


def figure(limits: Limits) -> Figure:
    """The picture of `limits_picture`."""
    classes, bins = _chosen(limits.classes), limits.bins
    height = 1.9 + 0.3 * max(len(classes), len(bins), 7)
    drawing = new_figure(11, height, w_pad=0.1, h_pad=0.08, wspace=0.04)
    left, right = drawing.subplots(1, 2, width_ratios=(1.25, 1))
    heading, explained = "By class", "the teacher's weakest first"
    if (shown := len(classes)) < (known := len(limits.classes)):
        heading = f"{shown} of {known} classes"
        explained = f"the teacher's {shown // 2} weakest; of the rest, the {shown // 2} most changed"
    _panel(left, (heading, explained), classes, set(limits.hurt))
    _panel(right, ("By difficulty", "the teacher's least sure answers first"), bins, set())
    interval, *marks = zip(*left.get_legend_handles_labels(), strict=True)
    handles, labels = zip(*marks, interval, strict=True)
    drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, handletextpad=0.4)
    return drawing


def _chosen(classes: list[LimitsLine]) -> list[LimitsLine]:
    """The teacher's weakest first; of many classes its weakest and, of the rest, those that changed most."""
    weakest = sorted(classes, key=lambda line: line.teacher)
    if len(classes) <= SHOWN:
        return weakest
    kept, rest = weakest[: SHOWN // 2], weakest[SHOWN // 2 :]
    changed = sorted(rest, key=lambda line: -abs(line.change))[: SHOWN // 2]
    return sorted([*kept, *changed], key=lambda line: line.teacher)


def _panel(axes: Axes, title: tuple[str, str], lines: list[LimitsLine], hurt: set[str]) -> None:
    places = range(len(lines))
    shares = ([100 * getattr(line, role) for line in lines] for role in ("teacher", "alone", "distilled"))
    teacher, alone, distilled = shares
    # The interval is one of the change; laid from the student alone it shows where distillation may have brought it.
    low = [max(100 * (line.alone + line.low), 0) for line in lines]
    high = [min(100 * (line.alone + line.high), 100) for line in lines]
    interval = "95 % interval of the change"
    axes.hlines(places, low, high, color=DISTILLED, alpha=0.25, linewidth=5, zorder=2, label=interval)
    look = {"linewidths": 0.8, "edgecolors": "white"}
    empty = {"linewidths": 1.5, "edgecolors": looks.GREY, "facecolors": "white"}
    axes.scatter(teacher, places, label="teacher", marker="*", s=110, color=looks.INK, zorder=3, **look)
    axes.scatter(alone, places, label="student alone", marker="o", s=38, zorder=4, **empty)
    axes.scatter(distilled, places, label="student distilled", marker="o", s=46, color=DISTILLED, zorder=5, **look)
    names = [line.name if len(line.name) <= NAME else f"{line.name[: NAME - 1].rstrip()}…" for line in lines]
    axes.set_yticks(places, names, parse_math=False)
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        if line.name in hurt:
            text.set(color=HURT, fontweight="bold")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    plain(axes)
    axes.tick_params(axis="x", colors=SOFT)
    axes.set_xlabel("right on test, %" + (" (bold: hurt by distillation)" if hurt else ""), color=looks.INK)
    heading, explained = title
    axes.set_title(f"{heading}\n", loc="left", fontweight="bold", fontsize=11, color=looks.INK)
    below = {"xycoords": "axes fraction", "textcoords": "offset points", "color": SOFT}
    # Out of the layout, or a long one would squeeze its panel.
    axes.annotate(explained, (0, 1), (0, 6), **below).set_in_layout(False)
