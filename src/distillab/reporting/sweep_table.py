"""The table of a sweep's cells, for the terminal and as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distillab.reporting.table import NOTHING, percent, points

if TYPE_CHECKING:
    from rich.table import Table

Record = Mapping[str, Any]

HEADINGS = ("cell", "strategy", "student", "changed", "top-1 %", "gain", "seconds", "note")
NUMBERS = ("cell", "top-1 %", "gain", "seconds")


def rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """The cells as text, under `HEADINGS`; `changed` is what the cells do not have in common."""
    common = set.intersection(*(set(record["overrides"]) for record in records)) if records else set()
    lines = []
    for place, record in enumerate(records, start=1):
        told = [word for word in record["overrides"] if word not in common]
        told = [word for word in told if not word.startswith(("strategy=", "student="))]
        seconds = record.get("seconds")
        lines.append(
            (
                str(record.get("number", place)),
                record["strategy"],
                record["student"],
                " ".join(told) or NOTHING,
                percent(record.get("top1")),
                points(record.get("gain")),
                NOTHING if seconds is None else f"{seconds:.0f}",
                _state(record),
            )
        )
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
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=title(records), caption="Gain: points of top-1 over the same student trained alone.")
    for heading in HEADINGS:
        shown.add_column(heading, justify="right" if heading in NUMBERS else "left", overflow="fold")
    for row in rows(records):
        shown.add_row(*map(escape, row))
    return shown


def markdown(sweep: Record, records: Sequence[Record]) -> str:
    """All cells that have begun, as a Markdown page."""
    done = sum("ended" in record for record in records)
    rule = [("-" * 3 + ":") if heading in NUMBERS else "---" for heading in HEADINGS]
    lines = [list(HEADINGS), rule, *([cell.replace("|", "\\|") for cell in row] for row in rows(records))]
    page = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    many = f"{done} of {sweep['cells']}" if sweep["cells"] else str(done)
    gain = "Gain: points of top-1 over the same student, seed and schedule trained without a teacher."
    return f"# Sweep\n\n    {sweep['command']}\n\n{many} cells have ended.\n\n{title(records)}:\n\n{page}\n\n{gain}\n"
