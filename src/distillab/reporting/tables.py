"""Tables and sections as plain data that every page shares, and a table as Markdown, as CSV or for the terminal.

A section has `id`, `title`, `text` (one sentence), `choices` (what each drop-down chooses), `views` and `detail` (its
tables are too long for the Markdown page). A view has `key` (its place in the choices), `text` (sentences), `charts` and
`tables`. A table has `headings` and `rows`, whose cells are texts, or a text and the number to sort it by.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Container, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.files import replacing
from distillab.core.output import rank_zero_print
from distillab.reporting.metric_table import NOTHING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

View = dict[str, Any]
Section = dict[str, Any]
Table = dict[str, Any]


def section(
    name: str, title: str, text: str, *, choices: Iterable[str] = (), views: list[View], detail: bool = False
) -> Section:
    """A section of the page; without views it is not shown."""
    return {"id": name, "title": title, "text": text, "choices": list(choices), "views": views, "detail": detail}


def view(
    key: Iterable[str] = (), text: Iterable[str] = (), charts: Iterable[Any] = (), tables: Iterable[Table] = ()
) -> View:
    """What a section shows for one choice."""
    return {"key": list(key), "text": list(text), "charts": list(charts), "tables": list(tables)}


def table(headings: Iterable[str], rows: Iterable[list[Any]]) -> Table:
    """A table of texts, or of pairs of a text and its number."""
    return {"headings": list(headings), "rows": list(rows), "notes": []}


def text(value: Any) -> str:
    """A cell of plain text."""
    return NOTHING if value in (None, "") else str(value)


def shown(cell: str | list[Any]) -> str:
    """The text of a cell."""
    return cell if isinstance(cell, str) else cell[0]


def ranks(scores: Iterable[Hashable]) -> list[int]:
    """The rank of each score, the best first; equal ones share theirs."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(score, position) for position, score in enumerate(scores, start=1)]


def markdown(
    headings: Collection[str], rows: Iterable[Iterable[str]], texts: Container[str], *, aligned: bool = False
) -> str:
    """A Markdown table of texts; all columns but `texts` stand to the right, `aligned` pads the source's cells too."""
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (headings, *rows)]
    columns = []
    for heading, cells in zip(headings, zip(*lines, strict=True), strict=True):
        number = heading not in texts
        width = max(3, *map(len, cells)) if aligned else 3 + number
        rule = "-" * (width - number) + ":" * number
        padded = [(cell.rjust(width) if number else cell.ljust(width)) if aligned else cell for cell in cells]
        columns.append([padded[0], rule, *padded[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def without_tags(page: str) -> str:
    """Markdown in which what looks like the tag of a page is shown as it is written, and not obeyed."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", page)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def terminal(headings: Iterable[str], rows: Iterable[Iterable[str]], texts: Container[str], **about: Any) -> RichTable:
    """The table for a terminal; the columns of `texts` stand to the left, `about` has its title and caption."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(**about)
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in texts else "right", overflow="fold")
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def print_table(shown: RichTable) -> None:
    """Print a table; a pipe has no width of its own, and 80 columns would break every cell."""
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=140)
    with console.capture() as captured:
        console.print(shown)
    rank_zero_print(captured.get().rstrip("\n"), result=True)


def write_csv(path: Path, records: Iterable[Mapping[str, Any]], first: Iterable[str] = ()) -> None:
    """One line a record, raw numbers, written atomically; `first` are columns that are there without records too.

    Text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    records = [{key: _harmless(value) for key, value in record.items()} for record in records]
    keys = dict.fromkeys((*first, *(key for record in records for key in record)))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(keys))
        writer.writeheader()
        writer.writerows(records)
