"""The charts as files: the pictures beside leaderboard, report and result, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings

from distillab.core.files import replacing
from distillab.core.result_parts import Limits, LimitsLine
from distillab.reporting import looks
from distillab.reporting.comparison import tables
from distillab.reporting.points import by_student, methods, points, teachers
from distillab.reporting.rows import Row, several
from distillab.reporting.spacing import HEIGHT, WIDTH

if TYPE_CHECKING:
    from altair import TopLevelMixin


def accuracy_plot(rows: Sequence[Row], path: Path, cost: str = "parameters") -> list[Path]:
    """Draw the primary figure against a cost, one panel per table of rows, as PNG and SVG.

    Returns the two files, each written atomically; none where no row knows that cost.
    """
    return _saved(_accuracy_panels(rows, cost), path)


def gains_plot(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw the gains with their intervals, one panel per table of rows, as PNG and SVG; none without a gain."""
    from distillab.reporting import gains_chart

    known = {place.words(several(members)): gains_chart.gains(members, methods(rows))
             for place, members in tables(rows).items()}  # fmt: skip
    panels = [chart.properties(width=WIDTH, title=title) for title, chart in known.items() if chart]
    return _saved(panels, path)


def budget_plot(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw the primary figure over the epochs, one panel for each student of several budgets, as PNG and SVG; none without one."""
    from distillab.reporting import charts

    known = {title: charts.budget(points(each, "epochs"), methods(rows), each[0].metric, teachers(each), width=WIDTH)
             for title, each in by_student(rows).items()}  # fmt: skip
    panels = [chart.properties(width=WIDTH, height=HEIGHT, title=title) for title, chart in known.items() if chart]
    return _saved(panels, path)


def figure(rows: Sequence[Row], cost: str = "parameters") -> TopLevelMixin | None:
    """The picture of `accuracy_plot`; None without points."""
    panels = _accuracy_panels(rows, cost)
    return _beside(panels) if panels else None


def _accuracy_panels(rows: Sequence[Row], cost: str) -> list[Any]:
    from distillab.reporting import charts  # late: a run needs it only at its end

    panels = []
    for place, members in tables(rows).items():
        known = points(members, cost)
        if chart := charts.accuracy(known, cost, methods(rows), members[0].metric, width=WIDTH):
            heading = {"text": place.words(several(members)), "subtitle": FRONT, "offset": 16}
            panels.append(chart.properties(width=WIDTH, height=HEIGHT, title=heading))
    return panels


def _saved(panels: Sequence[Any], path: Path) -> list[Path]:
    """The files of these panels in one picture; none without a panel."""
    return save(_beside(panels), path, (".svg", ".png")) if panels else []


def _beside(panels: Sequence[Any]) -> TopLevelMixin:
    """Panels in two columns, each with its own legend."""
    import altair

    with catch_warnings(action="ignore"):  # of panels whose legends do the same
        drawn = altair.concat(*panels, columns=2)
    independent = drawn.resolve_scale(fill="independent", stroke="independent", shape="independent")
    return independent.properties(description=" ".join(panel.description for panel in panels))


FRONT = "grey line: the students, taught or not, that no other one beats in both"


def save(chart: TopLevelMixin, path: Path, endings: tuple[str, ...]) -> list[Path]:
    """Write a chart atomically beside `path`, once for each of the endings, `.svg` and `.png`; unchanged, it is the same file."""
    import vl_convert

    spec = chart.to_dict(validate=False)
    spec["params"] = [*spec.get("params", ()), {"name": "room", "value": WIDTH}]
    drawn = vl_convert.vegalite_to_svg(spec, config=looks.PAPER, allowed_base_urls=[])
    drawn = drawn.replace("<svg", f'<svg role="img" aria-label="{escape(chart.description)}"', 1)
    targets = [path.with_suffix(ending) for ending in endings]
    for target in targets:
        with replacing(target) as temporary:
            content = drawn.encode() if target.suffix == ".svg" else vl_convert.svg_to_png(drawn, scale=2)
            temporary.write_bytes(content)
    return targets


def limits_picture(limits: Limits, path: Path) -> Path:
    """Draw what the teacher cannot teach as one PNG at `path` with that suffix: left per class, right per difficulty bin."""
    return save(limits_figure(limits), path, (".png",))[0]


def limits_figure(limits: Limits) -> TopLevelMixin:
    """The picture of `limits_picture`."""
    import altair

    from distillab.reporting import limits_chart

    classes = limits_chart.weakest(limits.classes)
    heading, explained = "By class", "the teacher's weakest first"
    if (shown := len(classes)) < (known := len(limits.classes)):
        heading = f"{shown} of {known} classes"
        explained = f"the teacher's {shown // 2} weakest; of the rest, the {shown // 2} most changed"

    def panel(lines: list[LimitsLine], what: str, hurt: list[str], *title: str) -> Any:
        drawn = limits_chart.limits(lines, what, hurt, limits.alone)
        return drawn.properties(width=400, title={"text": title[0], "subtitle": title[1]})

    left = panel(classes, "class", limits.hurt, heading, explained)
    bins = panel(limits.bins, "difficulty", [], "By difficulty", "the teacher's least sure answers first")
    return altair.hconcat(left, bins, description=left.description)
