"""Names, colours and shapes, the same in every chart of the page and in every picture."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from distillab.core.result import REFERENCES

ALONE, RANDOM = REFERENCES["baseline"], REFERENCES["random"]
LONGER, TEACHER, DISTILLED = "student alone, longer", "teacher", "student distilled"
# Okabe and Ito's palette, told apart with every kind of colour vision; yellow is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, SOFT, GREY, RULE, PALE = "#222222", "#555555", "#7F7F7F", "#BBBBBB", "#EBEBEB"
STAR = "M0,-1.2L0.28,-0.39L1.14,-0.37L0.46,0.15L0.71,0.97L0,0.48L-0.71,0.97L-0.46,0.15L-1.14,-0.37L-0.28,-0.39Z"
BAR = "M0,-1L0,1"
EX = "M-1,-0.6L-0.6,-1L0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0Z"
# One more than colours, so that the pairs repeat after 42 methods only; a grey print tells them apart as well.
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", EX)


class Look(NamedTuple):
    """How a series is drawn."""

    stroke: str
    fill: str
    shape: str


LOOKS = {ALONE: Look(INK, "#FFFFFF", "circle"), LONGER: Look(INK, GREY, "circle"), TEACHER: Look(INK, INK, STAR),
         RANDOM: Look(INK, "#FFFFFF", "diamond")}  # fmt: skip


def look(series: str, methods: Sequence[str]) -> Look:
    """The look of a method by its place among all methods of the page, or of a series that every page has."""
    if series in LOOKS:
        return LOOKS[series]
    place = methods.index(series)
    return Look(colour := COLOURS[place % len(COLOURS)], colour, SHAPES[place % len(SHAPES)])


def ordered(series: set[str], methods: Sequence[str]) -> list[str]:
    """The series in the order of the legend."""
    return [one for one in (*methods, ALONE, LONGER, RANDOM, TEACHER) if one in series]


# What all charts share, as Vega-Lite's config; a page embeds it once.
CONFIG: dict[str, Any] = {
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None, "continuousHeight": 360},
    "axis": {"gridColor": PALE, "domainColor": RULE, "tickColor": RULE, "labelColor": SOFT, "titleColor": INK,
             "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12, "titlePadding": 8},
    "legend": {"title": None, "labelColor": INK, "labelFontSize": 12, "symbolSize": 90, "symbolLimit": 0, "orient": "top", "direction": "horizontal"},
    "title": {"anchor": "start", "color": INK, "fontSize": 14, "subtitleColor": SOFT, "subtitleFontSize": 12},
    "concat": {"spacing": 36},
}  # fmt: skip
PAPER = {**CONFIG, "background": "white", "padding": 12}
