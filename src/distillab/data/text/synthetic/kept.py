"""Reads a finished root: the texts that its filters keep, and how many each of them rejects."""

from collections.abc import Iterator
from pathlib import Path

from distillab.core.errors import UserError
from distillab.data.text.synthetic.filters import FILTERS
from distillab.data.text.synthetic.shards import HOW, About, Root, read_table


def kept_texts(root: str | Path) -> Iterator[str]:
    """The texts of a finished root that passed its filters, in the order of their rows.

    Raises UserError at once for a root that is absent, half-written or without a kept text, and for a file with damaged
    texts when it comes to it: one file is in memory at a time.
    """
    folder = Path(root).expanduser()
    about = About.read(folder)
    if about is None:
        raise UserError(f"there is no synthetic text in {folder}; write it: {HOW} out={folder} teacher=… file=…")
    there = Root(folder, about)
    left = there.missing()
    if left or about.judged is None:
        done = len(there.shards()) - len(left)
        what = f"{done} of {len(there.shards())} files" if left else "all files, without the filters' verdicts"
        raise UserError(f"{folder} is half-written ({what}); the command that wrote it goes on: {HOW} out={folder} …")
    if not any(any(_kept(there.path(rows))) for rows in there.shards()):
        raise UserError(
            f"{folder} holds {about.rows} texts, and its filters reject all; loosen filters.… and run again"
        )
    return (text for rows in there.shards() for text in _kept_of(there.path(rows)))


def _kept(path: Path) -> list[bool]:
    return read_table(path, ["kept"]).column(0).to_pylist()


def _kept_of(path: Path) -> list[str]:
    """The kept texts of a shard."""
    table = read_table(path, ["kept", "text"])
    return table.filter(table.column("kept")).column("text").to_pylist()


def shares(root: Root) -> tuple[int, dict[str, int]]:
    """How many rows are kept, and how many each filter rejects; a row may be rejected by several."""
    kept, against = 0, dict.fromkeys(FILTERS, 0)
    for rows in root.shards():
        table = read_table(root.path(rows), ["kept", "rejected_by"])
        kept += table.column("kept").to_pylist().count(True)
        for names in table.column("rejected_by").to_pylist():
            for name in names:
                against[name] += 1
    return kept, against
