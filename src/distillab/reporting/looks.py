"""Names, colours and markers, the same in every chart, whether plotly or matplotlib draws it."""

from distillab.reporting.metric_table import PLOTTED

ALONE, TEACHER = "student alone", "teacher"
# The axis of each cost that a score is plotted against.
COSTS = dict(zip(PLOTTED, ("parameters", "multiply-adds of one sample", "latency of one sample, ms"), strict=True))
# Okabe and Ito's palette, told apart with every kind of colour vision; yellow is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY, LINE, PALE, RULE = "#222222", "#7F7F7F", "#B5B5B5", "#E6E6E6", "#BBBBBB"
# Plotly's and matplotlib's name of each marker: one more than colours, so that the pairs repeat after 42 methods only.
MARKERS = (("circle", "o"), ("square", "s"), ("triangle-up", "^"), ("diamond", "D"), ("triangle-down", "v"))
MARKERS += (("cross", "P"), ("x", "X"))
LOOKS = {ALONE: (GREY, "circle-open", "o"), TEACHER: (INK, "star", "*")}
# Whose front: its name, its colour, plotly's and matplotlib's name of its line.
FRONTS = {
    "distilled": ("front: distilled students", INK, "solid", "-"),
    ALONE: ("front: students alone", GREY, "dash", "--"),
    TEACHER: ("front: teachers", LINE, "dot", ":"),
}


def look(series: str, methods: list[str]) -> tuple[str, str, str]:
    """A series' colour and its marker in plotly and in matplotlib, the same in every chart."""
    if series in LOOKS:
        return LOOKS[series]
    place = methods.index(series)
    return COLOURS[place % len(COLOURS)], *MARKERS[place % len(MARKERS)]
