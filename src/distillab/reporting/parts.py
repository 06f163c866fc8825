"""What the report's sections are made of, as plain data that the page and the Markdown share.

A section has `id`, `title`, `text` (one sentence), `choices` (what each drop-down chooses), `views` and `detail` (its
tables are too long for the Markdown page). A view has `key` (its place in the choices), `text` (sentences), `charts` and
`tables`. A table has `headings` and `rows`, whose cells are texts, or a text and the number to sort it by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

View = dict[str, Any]
Section = dict[str, Any]
Table = dict[str, Any]


def section(
    name: str, title: str, text: str, choices: Iterable[str], views: list[View], detail: bool = False
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
    return {"headings": list(headings), "rows": list(rows)}
