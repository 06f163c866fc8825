"""The table of a sweep's cells, for the terminal and as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distillab.reporting import tables
from distillab.reporting.metric_table import NOTHING, metric, points

if TYPE_CHECKING:
    from rich.table import Table

Record = Mapping[str, Any]
TEXTS = ("strategy", "student", "changed", "note")  # the other columns are numbers


def headings(records: Sequence[Record]) -> list[str]:
    """Of the columns; the primary figure has the name that the cells which have ended well give it."""
    primary = next((record["primary"] for record in records if record.get("primary")), None)
    score = metric(primary).heading if primary else "score"
    return ["cell", "strategy", "student", "changed", score, "gain", "seconds", "note"]


def rows(records: Sequence[Record]) -> list[list[str]]:
    """The cells as text, under `headings`; `changed` is what the cells do not have in common."""
    common = set.intersection(*(set(record["overrides"]) for record in records)) if records else set()
    lines = []
    for place, record in enumerate(records, start=1):
        changed = (word for word in record["overrides"] if word not in common)
        told = " ".join(word for word in changed if not word.startswith(("strategy=", "student=")))
        score = metric(record["primary"]).form(record["score"]) if record.get("primary") else NOTHING
        seconds = record.get("seconds")
        spent = NOTHING if seconds is None else f"{seconds:.0f}"
        cell = [str(record.get("number", place)), record["strategy"], record["student"], told or NOTHING, score]
        lines.append([*cell, points(record.get("gain")), spent, _state(record)])
    return lines


def title(records: Sequence[Record]) -> str:
    """What the table shows, with the protocols of the cells that have ended well: their numbers must not be mixed up."""
    protocols = sorted({record["protocol"] for record in records if record.get("protocol")})
    return "The sweep's cells" + (f", protocol {' and '.join(protocols)}" if protocols else "")


def _state(record: Record) -> str:
    if "error" in record:
        return f"failed: {record['error']}"
    if "ended" not in record:
        return "not finished"
    return "finished before" if record["earlier"] else ""


def table(records: Sequence[Record]) -> Table:
    """All cells, one row each."""
    caption = "Gain: points of top-1 over the same student trained alone."
    return tables.terminal(headings(records), rows(records), TEXTS, title=title(records), caption=caption)


def markdown(sweep: Record, records: Sequence[Record]) -> str:
    """All cells that have begun, as a Markdown page."""
    done, columns = sum("ended" in record for record in records), headings(records)
    page = tables.markdown(columns, rows(records), [heading not in TEXTS for heading in columns])
    many = f"{done} of {sweep['cells']}" if sweep["cells"] else str(done)
    return f"# Sweep\n\n    {sweep['command']}\n\n{many} cells have ended.\n\n{title(records)}:\n\n{page}\n\n{tables.GAIN}\n"
