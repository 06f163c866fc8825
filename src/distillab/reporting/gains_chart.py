"""The chart of the gains of a table's methods, one below the other, the best rank first."""

from collections.abc import Sequence
from statistics import median

import altair as alt

from distillab.core.result import REFERENCES
from distillab.evaluation.families import Finding
from distillab.reporting import doubts, looks
from distillab.reporting.charts import axis_of, chart_of
from distillab.reporting.legends import channels
from distillab.reporting.metric_table import Metric
from distillab.reporting.rows import Row
from distillab.reporting.spacing import LETTER
from distillab.reporting.words import ends, part_of

LINE = 34  # pixels of one method: its name, and the mark below it
# What a mark tells, and its heading.
TOLD = {"name": "method", "over": "over", "said": "gain", "interval": "95 % interval", "rank": "rank", "runs": "runs"}


def gains(rows: Sequence[Row], methods: Sequence[str]) -> alt.LayerChart | None:
    """Each gain of a table with its 95 % interval where it has one; None without a gain.

    `methods` are all of the page, whose order fixes their looks.
    """
    known = [(row, row.gain) for row in rows if row.kind == "distilled" and row.gain]
    if not known:
        return None
    known.sort(key=lambda one: (one[0].rank is None, one[0].rank or 0, -one[1].gain))
    shown = known[0][0].metric
    domain = _domain([found for _, found in known], shown)
    values = _lines(known, shown, domain)
    base, scales = chart_of(values), channels({row.series for row, _ in known}, methods, told=False)
    unit = ", points" if shown.scale == 100 else ""
    ends_of = alt.Scale(domain=[shown.scale * end for end in domain], nice=False)
    title = f"gain in {shown.label}{unit}; right of zero is better"
    x = alt.X("gain:Q", title=title, axis=alt.Axis(orient="top", tickCount=6), scale=ends_of)
    y = alt.Y("line:O", axis=None, scale=alt.Scale(paddingOuter=0.15))
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in TOLD.items() if key in values[0]]
    zero = chart_of([{"gain": 0}]).mark_rule(color=looks.GREY, strokeWidth=1.2).encode(x=x)
    # As far as it fits beside the number: methods differ at the start, settings at the end.
    named = base.transform_calculate(short=f"truncate(datum.name, floor(room / {LETTER}), 'center')")
    texts = [
        named.mark_text(align=align, dy=-8, fontSize=12, **drawn).encode(x=alt.value(end), y=y, text=text, tooltip=tips)
        # The rule at zero is behind them.
        for drawn in ({"stroke": "white", "strokeWidth": 4}, {"color": looks.INK})
        for align, end, text in (("left", 0, "short:N"), ("right", "width", "said:N"))
    ]
    interval = chart_of([value for value in values if "low" in value]).mark_rule(strokeWidth=1.5, yOffset=7)
    interval = interval.encode(x=axis_of(x, "low"), x2="high", y=y, stroke=scales["stroke"])
    arrows = chart_of(_cut(known, shown, domain)).mark_point(size=28, yOffset=7, strokeWidth=0, opacity=1)
    arrows = arrows.encode(x=axis_of(x, "end"), y=y, shape=alt.Shape("side:N", scale=None), fill=scales["fill"])
    marks = base.mark_point(size=80, yOffset=7, strokeWidth=1.5, opacity=1).encode(x=x, y=y, tooltip=tips, **scales)
    drawn = alt.layer(zero, *texts, interval, arrows, marks).resolve_scale(shape="independent")
    said = f"Gains in {shown.label} with their 95 % intervals, the best rank first."
    return drawn.properties(description=said, height=LINE * len(values))


def _lines(
    known: Sequence[tuple[Row, Finding]], shown: Metric, domain: tuple[float, float]
) -> list[dict[str, str | float]]:
    """What is drawn and told of each gain."""
    many, mixed = len({row.student for row, _ in known}) > 1, len({row.reference for row, _ in known}) > 1
    values = []
    for line, (row, found) in enumerate(known):
        told = {
            "line": line,
            "name": f"{row.label}, {row.student}" if many else row.label,
            "series": row.series,
            "gain": shown.scale * found.gain,
            "said": shown.difference(found.gain) + doubts.MARK * bool(doubts.of_row(row)),
            "interval": ends(found, shown),
            "rank": row.rank or "none",
            "runs": f"{found.runs}{part_of(found, row)}",
        }
        if mixed:
            told["over"] = REFERENCES[row.reference]
        if found.low is not None and found.high is not None:
            told |= {"low": shown.scale * max(found.low, domain[0]), "high": shown.scale * min(found.high, domain[1])}
        values.append(told)
    return values


def _cut(
    known: Sequence[tuple[Row, Finding]], shown: Metric, domain: tuple[float, float]
) -> list[dict[str, str | float]]:
    """An arrow at each end of the axis that an interval runs out of."""
    return [
        {"line": line, "series": row.series, "end": shown.scale * end, "side": side}
        for line, (row, found) in enumerate(known)
        if found.low is not None and found.high is not None
        for side, end, out in (
            ("triangle-left", domain[0], found.low < domain[0]),
            ("triangle-right", domain[1], found.high > domain[1]),
        )
        if out
    ]


def _domain(findings: Sequence[Finding], shown: Metric) -> tuple[float, float]:
    """The ends of the axis: all gains and zero; of the intervals, those much wider than most run out of the chart."""
    gains = [0.0, *(one.gain for one in findings)]
    wide = [one.high - one.low for one in findings if one.low is not None and one.high is not None]
    reach = max((max(gains) - min(gains)) / 4, median(wide) if wide else 0.0) or 0.01
    lows, highs = (
        [one.gain if end is None else end for one in findings for end in [getattr(one, key)]] for key in ("low", "high")
    )
    low, high = max(min(0.0, *lows), min(gains) - reach), min(max(0.0, *highs), max(gains) + reach)
    if shown.scale == 100:
        low, high = max(low, -1.0), min(high, 1.0)
    margin = 0.05 * (high - low) or reach
    return low - margin, high + margin
