"""What the report ranks: the rows of the comparison, each with its rank among the same data and protocol."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from distillab.files import replacing
from distillab.tracking.comparison import Row, compare
from distillab.tracking.parts import Table, table
from distillab.tracking.table import NOTHING, count, milliseconds, percent, points, sentence

Result = dict[str, Any]
COSTS = ("parameters", "multiply_adds", "latency_ms", "size_bytes")
FILTERS = ("data", "protocol", "student", "method")


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone, and their rank by mean top-1."""

    row: Row
    rank: int

    @property
    def label(self) -> str:
        """Method, what was changed, and student: `kd strategy.kd.temperature=2, resnet8`."""
        return f"{self.row.label}, {self.row.student}"

    def mean(self, role: str, key: str) -> float | None:
        """A number of one role's entry over the runs that have it; of latencies the median, which one slow run spares."""
        entries = [result[role] for result in self.row.results if result.get(role)]
        return mean(entries, key)

    @property
    def record(self) -> dict[str, Any]:
        """The line of the leaderboard: raw numbers, accuracies from 0 to 1."""
        row = self.row
        return {
            "data": row.data,
            "train": row.train,
            "protocol": row.protocol,
            "rank": self.rank,
            "method": row.method,
            "student": row.student,
            "teacher": row.teacher,
            "epochs": row.epochs,
            "changed": row.changed,
            "seeds": " ".join(map(str, row.seeds)),
            "top1": row.mean,
            "deviation": row.deviation,
            **{key: self.mean("student", key) for key in ("top1_best", "top1_last")},
            "gain": row.gain_mean,
            "gain_low": row.gain_low,
            "gain_high": row.gain_high,
            "p": row.p,
            "p_holm": row.p_holm,
            "smallest_gain": row.smallest_gain,
            **{key: self.mean("student", key) for key in COSTS},
            "words": row.words,
            "runs": " ".join(result["config_hash"] for result in row.results),
        }


def mean(entries: list[dict[str, Any]], key: str) -> float | None:
    """The mean over the entries that have a number there, of latencies the median; None where none has."""
    known = [entry[key] for entry in entries if entry.get(key) is not None]
    if not known:
        return None
    return statistics.median(known) if key.startswith("latency") else statistics.fmean(known)


def ranked(results: list[Result]) -> list[Group]:
    """All groups, ordered by data, protocol and mean top-1; equal means share a rank within their data and protocol."""
    rows = sorted(compare(results), key=lambda row: (row.data, row.protocol, -row.mean, row.student, row.label))
    groups = []
    for _, ranking in groupby(rows, lambda row: (row.data, row.protocol)):
        rank, previous = 0, None
        for position, row in enumerate(ranking, start=1):
            if row.mean != previous:
                rank, previous = position, row.mean
            groups.append(Group(row, rank))
    return groups


def by_ranking(groups: list[Group]) -> dict[str, list[Group]]:
    """The groups of each data set and protocol, which alone may be ranked together, under the name to show."""
    return {name: list(members) for name, members in groupby(groups, place)}


def place(group: Group) -> str:
    """Data set and protocol in words."""
    return f"{group.row.data}, protocol {group.row.protocol}"


def headline(groups: list[Group]) -> list[str]:
    """One sentence for each student of each ranking and teacher: its best method, and how sure the gain is."""
    taught: dict[tuple[str, ...], list[Group]] = {}
    alone: dict[tuple[str, ...], Group] = {}
    for group in groups:
        if group.row.alone:
            alone.setdefault((place(group), group.row.student), group)
        else:
            taught.setdefault((place(group), group.row.student, str(group.row.teacher)), []).append(group)
    lines = []
    for (where, student, teacher), members in taught.items():
        best = members[0].row
        which = f"the best of {len(members)} is {best.label}" if len(members) > 1 else best.label
        lines.append(
            f"{student} on {where}, taught by {teacher}: {which} with {_reached(best)}. {sentence(best.words)}"
        )
    for (where, student), group in alone.items():
        if not any(key[:2] == (where, student) for key in taught):
            lines.append(f"{student} on {where}, trained alone: {_reached(group.row)}.")
    return lines


def _reached(row: Row) -> str:
    return f"{percent(row.mean)} % ({len(row.seeds)} seed{'s' if len(row.seeds) != 1 else ''})"


def _plain(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: NOTHING if record[key] in (None, "") else str(record[key])


def _top1(record: dict[str, Any]) -> str:
    spread = "" if record["deviation"] is None else f" ± {percent(record['deviation'])}"
    return percent(record["top1"]) + spread


def _interval(record: dict[str, Any]) -> str:
    low, high = record["gain_low"], record["gain_high"]
    return NOTHING if low is None or high is None else f"{points(low)} to {points(high)}"


# Heading → how a record shows there, and the number to sort by (None: sorted as text).
COLUMNS: dict[str, tuple[Callable[[dict[str, Any]], str], str | None]] = {
    "rank": (_plain("rank"), "rank"),
    "method": (_plain("method"), None),
    "student": (_plain("student"), None),
    "teacher": (_plain("teacher"), None),
    "changed": (_plain("changed"), None),
    "top-1 %": (_top1, "top1"),
    "best epoch on test %": (lambda record: percent(record["top1_best"]), "top1_best"),
    "last epoch %": (lambda record: percent(record["top1_last"]), "top1_last"),
    "gain": (lambda record: points(record["gain"]), "gain"),
    "95 % interval": (_interval, "gain_low"),
    "in words": (_plain("words"), None),
    "parameters": (lambda record: count(record["parameters"]), "parameters"),
    "multiply-adds": (lambda record: count(record["multiply_adds"]), "multiply_adds"),
    "latency ms": (lambda record: milliseconds(record["latency_ms"]), "latency_ms"),
    "size, bytes": (lambda record: count(record["size_bytes"]), "size_bytes"),
    "seeds": (_plain("seeds"), None),
    "epochs": (_plain("epochs"), "epochs"),
    "training images": (_plain("train"), "train"),
}


def leaderboard(groups: list[Group]) -> list[Table]:
    """One table a ranking, best mean top-1 first; `filters` holds what the drop-downs choose by, one entry a row."""
    rankings = []
    for name, members in by_ranking(groups).items():
        records = [group.record for group in members]
        used = {
            heading: (form, key)
            for heading, (form, key) in COLUMNS.items()
            if any(form(record) != NOTHING for record in records)
        }
        rows = [
            [form(record) if key is None else [form(record), record[key]] for form, key in used.values()]
            for record in records
        ]
        filters = [{key: record[key] for key in FILTERS} for record in records]
        rankings.append({"title": name, "filters": filters, **table(used, rows)})
    return rankings


def write_csv(groups: list[Group], path: Path) -> None:
    """One line a group, raw numbers."""
    records = [group.record for group in groups]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
