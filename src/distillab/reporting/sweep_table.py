"""The table of a sweep's cells, for the terminal and as a Markdown page."""

from collections.abc import Mapping, Sequence
from typing import Any

from distillab.reporting import tables
from distillab.reporting.metric_table import NOTHING, OVER, OVER_RANDOM, Metric, counted, gain_note, metric, percent
from distillab.reporting.tables import Table

Record = Mapping[str, Any]
HEADINGS = ("cell", "strategy", "student", "changed")


def _shown(records: Sequence[Record]) -> Metric:
    """The primary figure of the cells that have ended well; until one has, nothing says which it is."""
    primary = next((record["primary"] for record in records if record.get("primary")), None)
    return metric(primary) if primary else Metric("score", percent)


def table(records: Sequence[Record]) -> Table:
    """All cells, one row each; `changed` is what they do not have in common."""
    common = set.intersection(*(set(record["overrides"]) for record in records)) if records else set()
    lines = []
    for place, record in enumerate(records, start=1):
        changed = (word for word in record["overrides"] if word not in common)
        told = " ".join(word for word in changed if not word.startswith(("strategy=", "student=")))
        shown, seconds = _shown([record]), record.get("seconds")
        cell = [str(record.get("number", place)), record["strategy"], record["student"], told or NOTHING]
        figures = [shown.form(record.get("score")), shown.difference(record.get("gain"))]
        lines.append([*cell, *figures, NOTHING if seconds is None else f"{seconds:.0f}", _state(record)])
    return Table((*HEADINGS, _shown(records).heading, "gain", "seconds", "note"), lines, _title(records))


def _title(records: Sequence[Record]) -> str:
    """With the protocols of the cells that have ended well: their numbers must not be mixed up."""
    protocols = sorted({record["protocol"] for record in records if record.get("protocol")})
    return "The sweep's cells" + (f", protocol {' and '.join(protocols)}" if protocols else "")


def _state(record: Record) -> str:
    if "error" in record:
        return f"failed: {record['error']}"
    if "ended" not in record:
        return "not finished"
    return "finished before" if record["earlier"] else ""


def _over(records: Sequence[Record], alone: str) -> str:
    """What the gains of the cells are over."""
    known = {record.get("over", "baseline") for record in records if record.get("gain") is not None} or {"baseline"}
    return " or ".join(words for over, words in (("baseline", alone), ("random", OVER_RANDOM)) if over in known)


def show(records: Sequence[Record]) -> None:
    """Print all cells, one row each."""
    tables.print_table(
        tables.terminal(table(records), gain_note([_shown(records)], _over(records, "the same student trained alone")))
    )


def markdown(sweep: Record, records: Sequence[Record]) -> str:
    """All cells that have begun, as a Markdown page."""
    done = sum("ended" in record for record in records)
    page = tables.markdown(table(records))
    of = sweep["cells"] or done
    many = f"{done} of {counted(of, 'cell')}" if sweep["cells"] else counted(done, "cell")
    ended = f"{many} {'has' if of == 1 else 'have'} ended."
    head = f"# Sweep\n\n    {sweep['command']}\n\n{ended}\n\n{_title(records)}:"
    return tables.without_tags(f"{head}\n\n{page}\n\n{gain_note([_shown(records)], _over(records, OVER))}\n")
