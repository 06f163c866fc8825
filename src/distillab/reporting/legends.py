"""How the series of a chart are drawn, and its legend, which is no wider than its plot."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from distillab.reporting import looks
from distillab.reporting.spacing import LETTER

LONG = len(looks.LONGER)  # letters of a name; longer ones are broken


def legend(names: Sequence[str], **options: Any) -> alt.Legend:
    """A legend of as many columns as there is room for: page and picture give a chart `room`, a parameter in pixels.

    A long name is broken at its spaces: it is not cut, and does not widen the columns of all others.
    """
    words = [word for name in names for word in name.split()]
    letters = min(max(map(len, names)), max(LONG, *map(len, words)))
    columns = alt.ExprRef(f"max(1, floor(room / {LETTER * letters + 20}))")
    label = f"length(datum.label) > {letters} ? split(datum.label, ' ') : datum.label"
    return alt.Legend(columns=columns, labelExpr=label, labelLimit=alt.ExprRef("room - 20"), **options)


def channels(series: set[str], methods: Sequence[str], *, rows: int = 0, told: bool = True) -> dict[str, Any]:
    """Stroke, fill and shape by series; where it is `told` one legend for the three, above so many rows of names."""
    names = looks.ordered(series, methods)
    shown = legend(names, offset=18 + 15 * rows) if told else None
    ranges = zip(*(looks.look(name, methods) for name in names), strict=True)
    made = (
        channel("series:N", scale=alt.Scale(domain=names, range=list(each)), legend=shown)
        for channel, each in zip((alt.Stroke, alt.Fill, alt.Shape), ranges, strict=True)
    )
    return dict(zip(("stroke", "fill", "shape"), made, strict=True))
