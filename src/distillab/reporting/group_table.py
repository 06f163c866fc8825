"""The report's leaderboard, one line a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distillab.reporting.groups import Group, by_ranking
from distillab.reporting.metric_table import METRICS, NOTHING, RANKED, metric, percent, points
from distillab.reporting.tables import Table, table, text

FILTERS = ("data", "protocol", "student", "method")
# Heading → how a record shows there, and the number to sort by (None: sorted as text).
Columns = dict[str, tuple[Callable[[dict[str, Any]], str], str | None]]


def _plain(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: text(record[key])


def _figure(key: str) -> tuple[Callable[[dict[str, Any]], str], str]:
    return lambda record: metric(key).form(record[key]), key


def _score(key: str) -> Callable[[dict[str, Any]], str]:
    form = metric(key).form
    return lambda record: form(record[key]) + ("" if record["deviation"] is None else f" ± {form(record['deviation'])}")


def _interval(name: str, form: Callable[..., str]) -> Callable[[dict[str, Any]], str]:
    return lambda record: interval(record[f"{name}_low"], record[f"{name}_high"], form)


def interval(low: float | None, high: float | None, form: Callable[..., str] = points) -> str:
    """An interval in words."""
    return NOTHING if low is None or high is None else f"{form(low)} to {form(high)}"


def p_value(p: float | None) -> str:
    """A p with three decimals."""
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _columns(primary: str) -> Columns:
    """The columns of a ranking by that figure."""
    return {
        "rank": (_plain("rank"), "rank"),
        **{key: (_plain(key), None) for key in ("method", "student", "teacher", "labels", "changed")},
        metric(primary).heading: (_score(primary), primary),
        "its 95 % interval": (_interval(primary, metric(primary).form), f"{primary}_low"),
        **{metric(key).heading: _figure(key) for key in (f"{primary}_best", f"{primary}_last")},
        "gain": (lambda record: points(record["gain"]), "gain"),
        "95 % interval": (_interval("gain", points), "gain_low"),
        "p (Holm)": (lambda record: p_value(record["gain_p_holm"]), "gain_p_holm"),
        "gap closed %": (lambda record: percent(record["gap_closed"], 0), "gap_closed"),
        "gain at equal compute": (lambda record: points(record["equal_compute_gain"]), "equal_compute_gain"),
        "in words": (_plain("words"), None),
        **{METRICS[key].heading: _figure(key) for key in RANKED[:3]},
        "measured on": (_plain("measured_on"), None),
        **{METRICS[key].heading: _figure(key) for key in RANKED[3:]},
        "seeds": (_plain("seeds"), None),
        "epochs": (_plain("epochs"), "epochs"),
        "training images": (_plain("train"), "train"),
    }


def leaderboard(groups: list[Group]) -> list[Table]:
    """One table a ranking, best mean first; `filters` holds what the drop-downs choose by, one entry a row."""
    rankings = []
    for name, members in by_ranking(groups).items():
        records = [group.record for group in members]
        columns = {
            heading: [form(record) if key is None else [form(record), record[key]] for record in records]
            for heading, (form, key) in _columns(members[0].row.primary.name).items()
            if any(form(record) != NOTHING for record in records)
        }
        rows = map(list, zip(*columns.values(), strict=True))
        filters = [{key: record[key] for key in FILTERS} for record in records]
        rankings.append({"title": name, "filters": filters, **table(columns, rows)})
    return rankings
