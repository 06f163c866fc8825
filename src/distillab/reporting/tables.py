"""A table as plain data, written for the terminal, as Markdown, as CSV and, by the page's template, as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distillab.core.files import replacing
from distillab.core.output import rank_zero_print
from distillab.reporting.metric_table import NOTHING, metric

if TYPE_CHECKING:
    from rich.table import Table as RichTable


class Cell(NamedTuple):
    """A text, and the number that it stands for, by which a page sorts it."""

    text: str
    number: float | None = None


NUMBER = r"[<≤]?\s?[+\-−]?\d[\d,]*(\.\d+)?(e[+\-]?\d+)?( ?(%|×|s|ms|[kMG]?B|[kMG]))?"
FIGURE = re.compile(rf"{NUMBER}(( ±| to| of) {NUMBER})?( \(.*\))?( points)?")


@dataclass(frozen=True)
class Table:
    """Headings and rows of texts or cells; `notes` are a sentence for each row, which a page folds away."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    title: str = ""
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, records: Sequence[Mapping[str, str | Cell]], title: str = "", notes: Sequence[str] = ()) -> Table:
        """A table of rows that have the same headings, each beside its cell."""
        return cls(list(records[0]) if records else [], [list(record.values()) for record in records], title, notes)

    @property
    def texts(self) -> list[list[str]]:
        """The texts of its cells."""
        return [[_text(cell) for cell in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, and stand to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.headings)
        return [_of_figures([cell for cell in column if _text(cell) not in ("", NOTHING)]) for column in columns]

    def without_empty(self) -> Table:
        """The table without the columns in which no row has anything."""
        columns = range(len(self.headings))
        return self._of([place for place in columns if any(row[place] not in ("", NOTHING) for row in self.texts)])

    def without(self, headings: Container[str]) -> Table:
        """The table without these columns."""
        return self._of([place for place, heading in enumerate(self.headings) if heading not in headings])

    def _of(self, places: Sequence[int]) -> Table:
        rows = [[row[place] for place in places] for row in self.rows]
        return Table([self.headings[place] for place in places], rows, self.title, self.notes)


@dataclass(frozen=True)
class View:
    """What a section shows for one choice: `key` is its place in the choices, `text` are sentences."""

    key: Sequence[str] = ()
    text: Sequence[str] = ()
    charts: Sequence[Any] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """A part of the report; `choices` are what each drop-down chooses; Markdown has the first `kept` tables of a view, or all."""

    name: str
    title: str
    text: str
    views: Sequence[View]
    choices: Sequence[str] = field(default=())
    kept: int | None = None


def figure(key: str, value: float | None) -> Cell:
    """A figure as the metric table writes it."""
    return Cell(metric(key).form(value), value)


def figures(keys: Iterable[str], figure_of: Callable[[str], float | None]) -> dict[str, Cell]:
    """The cells of several figures by their headings."""
    return {metric(key).heading: figure(key, figure_of(key)) for key in keys}


def text(value: Any) -> str:
    """A cell of plain text."""
    return NOTHING if value in (None, "") else str(value)


def _text(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def _of_figures(cells: Sequence[str | Cell]) -> bool:
    """Whether there are cells, and all of them hold a number, or a text that is one: alone, with its unit, two or in brackets."""
    return bool(cells) and all(not isinstance(cell, str) or FIGURE.fullmatch(cell) is not None for cell in cells)


def markdown(table: Table, *, aligned: bool = False) -> str:
    """A Markdown table; columns of numbers stand to the right, `aligned` pads the source's cells too."""
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (table.headings, *table.texts)]
    columns = []
    for number, cells in zip(table.numeric, zip(*lines, strict=True), strict=True):
        width = max(3, *map(len, cells)) if aligned else 3 + number
        padded = [(cell.rjust(width) if number else cell.ljust(width)) if aligned else cell for cell in cells]
        columns.append([padded[0], "-" * (width - number) + ":" * number, *padded[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def without_tags(page: str) -> str:
    """Markdown in which what looks like the tag of a page is shown as it is written, and not obeyed."""
    return re.sub(r"!\[", "!\\\\[", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", page))


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def terminal(table: Table, caption: str | None = None) -> RichTable:
    """The table for a terminal: a title, the headings and a rule above its rows, and no lines else."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(title=escape(table.title) or None, title_justify="left", caption=caption, box=SIMPLE_HEAD)
    shown.show_edge = False
    for heading, number in zip(table.headings, table.numeric, strict=True):
        shown.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in table.texts:
        shown.add_row(*map(escape, row))
    return shown


def print_table(shown: RichTable) -> None:
    """Print a table; a pipe has no width of its own, and 80 columns would break every cell."""
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=140)
    with console.capture() as captured:
        console.print(shown)
    lines = (line.rstrip() for line in captured.get().rstrip("\n").splitlines())
    rank_zero_print("\n".join(lines), result=True)


def write_csv(path: Path, records: Iterable[Mapping[str, Any]], first: Iterable[str] = ()) -> None:
    """One line a record, raw numbers, written atomically; `first` are columns that are there without records too.

    Text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    from pandas import DataFrame

    frame = DataFrame([{key: harmless(value) for key, value in record.items()} for record in records], dtype=object)
    frame = frame.reindex(columns=dict.fromkeys((*first, *frame.columns)).keys())
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\r\n")


def harmless(cell: Any) -> Any:
    """A cell of a CSV: text that a spreadsheet would run as a formula begins with an apostrophe, all else is unchanged."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
