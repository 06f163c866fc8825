"""Writes predictions row by row: CSV or JSON lines, to a file or to standard output."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from distillab.core.errors import UserError, printable
from distillab.core.files import plain, replacing, writable
from distillab.core.output import rank_zero_print
from distillab.reporting.tables import harmless

Format = Literal["csv", "jsonl"]
Row = Mapping[str, Any]
FORMATS: tuple[Format, ...] = ("csv", "jsonl")
PLACE = "out=…"


def format_of(out: Path | None, given: Format | None) -> Format:
    """The format that is asked for, or that the file's ending names; CSV on standard output. Raises UserError."""
    if out is not None and out.is_dir():
        raise UserError(f"out={out} is a folder; name a file, e.g. out={out}/predictions.{given or 'csv'}")
    if given is not None:
        return given
    ending = out.suffix.lower().removeprefix(".") if out is not None else "csv"
    if ending not in FORMATS:
        raise UserError(f"out={out} must end in .csv or .jsonl; or say which it is, format=csv")
    return ending


@contextmanager
def writing(out: Path | None, kind: Format, columns: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    """A block with a function that writes a row; a file gets its name at the end, and is not there if the block fails.

    Raises UserError where the file cannot be written.
    """
    lines = _Lines(kind, columns)
    if out is None:
        first = lines.head()
        if first is not None:
            rank_zero_print(first, result=True)
        shown = printable if sys.stdout.isatty() else str  # a name may hold what changes a terminal
        yield lambda row: rank_zero_print(shown(lines.of(row)), result=True)
        return
    end, place = "\r\n" if kind == "csv" else "\n", out.absolute().parent
    with ExitStack() as held:
        with writable(place, PLACE):
            file = held.enter_context(replacing(out)).open("w", encoding="utf-8", newline="")
            held.callback(file.close)

        def write(line: str) -> None:
            with writable(place, PLACE):
                file.write(line + end)

        if (first := lines.head()) is not None:
            write(first)
        yield lambda row: write(lines.of(row))
        with writable(place, PLACE):
            held.close()


class _Lines:
    """Rows as lines of text."""

    def __init__(self, kind: Format, columns: Sequence[str]) -> None:
        self.kind, self.columns = kind, columns

    def head(self) -> str | None:
        return _csv(self.columns) if self.kind == "csv" else None

    def of(self, row: Row) -> str:
        shown = plain({name: _encodable(value) for name, value in row.items()})
        if self.kind == "jsonl":
            return json.dumps(shown, ensure_ascii=False, allow_nan=False)
        return _csv([_cell(shown.get(name)) for name in self.columns])


def _csv(cells: Sequence[Any]) -> str:
    line = StringIO()
    csv.writer(line).writerow(cells)  # it quotes what its own end of a line holds, so that stays until here
    return line.getvalue().removesuffix("\r\n")


def _cell(value: Any) -> Any:
    """A value as a cell: text that a spreadsheet would run as a formula begins with an apostrophe."""
    return str(value).lower() if isinstance(value, bool) else harmless(value)


def _encodable(value: Any) -> Any:
    """Text with the bytes of a file's name that are no UTF-8 written out, as no encoding has them."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
