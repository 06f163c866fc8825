"""The chart of what the teacher cannot teach: classes or difficulty bins, one below the other."""

import json
from collections.abc import Sequence

import altair as alt

from distillab.core.result_parts import LimitsLine
from distillab.reporting import looks
from distillab.reporting.charts import axis_of
from distillab.reporting.legends import legend
from distillab.reporting.looks import ALONE, DISTILLED, INK, TEACHER

SHOWN = 20  # classes; more lines than that nobody reads


def weakest(classes: Sequence[LimitsLine]) -> list[LimitsLine]:
    """The teacher's weakest first; of many classes its weakest and, of the rest, those that changed most."""
    ordered = sorted(classes, key=lambda line: line.teacher)
    if len(ordered) <= SHOWN:
        return ordered
    kept, rest = ordered[: SHOWN // 2], ordered[SHOWN // 2 :]
    changed = sorted(rest, key=lambda line: -abs(line.change))[: SHOWN // 2]
    return sorted([*kept, *changed], key=lambda line: line.teacher)


def limits(lines: Sequence[LimitsLine], what: str, hurt: Sequence[str] = (), alone: str = ALONE) -> alt.LayerChart:
    """Accuracy of teacher, student alone and distilled student for each class or difficulty bin, one below the other.

    A bar, a ring and a dot: where all three are equal, each is still seen. `what` names the lines, `alone` the reference.
    """
    roles = {"teacher": TEACHER, "alone": alone, "distilled": DISTILLED}
    values = []
    for line in lines:
        told = {role: getattr(line, role) for role in roles}
        ends = max(line.alone + line.low, 0), min(line.alone + line.high, 1)
        told |= {"low": ends[0], "high": ends[1], "end": max(*told.values(), ends[1])}
        told = {key: round(100 * share, 2) for key, share in told.items()}
        values.append(told | {"name": line.name, "samples": line.samples, "hurt": "hurt" if line.name in hurt else ""})
    x = alt.X("share:Q", title="right on test, %", scale=alt.Scale(zero=False, nice=False, padding=12))
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=150, ticks=False))
    base, (blue, red) = alt.Chart().encode(y=y), looks.COLOURS[:2]
    # The interval is one of the change; laid from the student alone it shows where distillation may have brought it.
    interval = base.mark_bar(height=9, color=blue, opacity=0.16).encode(x=axis_of(x, "low"), x2="high")
    colour = alt.condition(alt.datum.hurt == "hurt", alt.value(red), alt.value(blue))
    change = base.mark_rule(strokeWidth=2.5).encode(x="alone:Q", x2="distilled", color=colour)
    label = base.mark_text(color=red, align="left", dx=8, fontWeight="bold").encode(x="end:Q", text="hurt:N")
    ranges = {"stroke": [INK, INK, blue], "fill": [INK, "transparent", blue], "shape": [looks.BAR, "circle", "circle"]}
    channels = zip((alt.Stroke, alt.Fill, alt.Shape), ranges.items(), strict=True)
    scales = {
        key: made("role:N", scale=alt.Scale(domain=[*roles.values()], range=each), legend=legend([*roles.values()]))
        for made, (key, each) in channels
    }
    size = alt.when(alt.datum.role == TEACHER).then(alt.value(90)).when(alt.datum.role == alone).then(alt.value(120))
    tips = ["name:N", "role:N", alt.Tooltip("share:Q", title="right, %"), "samples:Q"]
    folded = base.transform_fold([*roles], ["key", "share"]).transform_calculate(
        role=f"({json.dumps(roles)})[datum.key]"
    )
    marks = folded.mark_point(strokeWidth=2, opacity=1).encode(
        x=x, size=size.otherwise(alt.value(34)), tooltip=tips, **scales
    )
    said = f"Accuracy of teacher, {alone} and distilled student by {what}; pale: 95 % interval of the change."
    drawn = alt.layer(interval, change, marks, label, data=alt.Data(values=values))
    return drawn.properties(description=said, height=24 * len(lines))
