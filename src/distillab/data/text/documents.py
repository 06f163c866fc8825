"""Reads documents: text, JSONL or parquet files, a data set's name, a folder inside an installed package."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distillab.core.errors import UserError, first_few, reason
from distillab.core.places import located
from distillab.data.text.text_files import HALF, paragraphs, read_lines, read_text

SAID = "data.path: "  # before each message
SUFFIXES = (".txt", ".md", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Document:
    """One document: plain text, or the messages of a conversation. `kind` groups documents in the report."""

    text: str
    kind: str = ""
    messages: tuple[Mapping[str, str], ...] | None = None

    @property
    def content(self) -> str:
        """All that is read, for hashes and comparisons."""
        return self.text if self.messages is None else "\n".join(str(m.get("content", "")) for m in self.messages)


@dataclass(frozen=True)
class Kinds:
    """How the path of a file names the kind of its documents: a regular expression, and what to write of its groups.

    `(\\d\\d)\\d\\d-` with `\\g<1>00s` makes 1800s of 1865-Lincoln.txt. Raises UserError for what is no such pair.
    """

    pattern: str
    words: str = r"\g<0>"

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
            re.sub(self.pattern, self.words, "")
        except (re.error, IndexError) as error:
            raise UserError(
                f"data.kind: {self.pattern!r} with {self.words!r} is no regular expression ({error})"
            ) from error

    @classmethod
    def of(cls, given: str | Sequence[str] | None) -> "Kinds | None":
        """From a pattern, or a list of a pattern and words."""
        if given is None:
            return None
        parts = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
            raise UserError(f"data.kind must be a regular expression, or a list of one and its words, got {given!r}")
        return cls(*parts)

    def name(self, path: str) -> str | None:
        """The kind of a file's documents; None where the pattern does not occur in its path."""
        found = re.search(self.pattern, path)
        return found and found.expand(self.words)


def read_documents(path: str, *, field: str = "text", kinds: Kinds | None = None) -> list[Document]:
    """The documents of a file or of a folder of files, in the order of their names.

    A folder's .txt or .md file is a document; a single one is divided at its blank lines. A row of a JSONL or parquet
    file is a document: its `field`, or its `messages`. The kind is a row's `kind`, what `kinds` makes of the file's path
    below `path`, or the folder there. Raises UserError for a path that is absent, for one without text, and for rows
    without either field.
    """
    root = located(path, "data.path")
    if root.is_dir():
        files = sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise UserError(f"data.path: {root} holds none of {', '.join(SUFFIXES)}; name a folder or file that does")
    elif root.is_file():
        if root.suffix.lower() not in SUFFIXES:
            raise UserError(f"data.path: {root} is none of {', '.join(SUFFIXES)}; name it so if it is plain text")
        files = [root]
    else:
        what = f"{root} is neither a file nor a folder" if root.exists() else f"there is no {root}"
        raise UserError(f"data.path: {what}; name a file or folder with data.path=…")
    found = [document for file in files for document in _read(file, root, field, kinds)]
    if not found:
        raise UserError(f"data.path: {root} holds no text; name another with data.path=…")
    return found


def read_dataset(name: str, *, field: str = "text") -> list[Document]:
    """The training rows of a data set of the hub, or of a folder that `datasets` understands. Raises UserError."""
    import datasets

    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:  # the library has a class of its own for each way to fail
        raise UserError(
            f"data.name: datasets cannot load {name} ({reason(error)}); data.path=… reads a file"
        ) from error
    return list(_rows(rows, name, field))


def _read(file: Path, root: Path, field: str, kinds: Kinds | None) -> Iterator[Document]:
    inside = file.relative_to(root).parts if root.is_dir() else (file.name,)
    kind = (kinds and kinds.name("/".join(inside))) or (inside[0] if len(inside) > 1 else "")
    if file.suffix.lower() == ".parquet":
        import pyarrow.parquet

        try:
            yield from _rows(pyarrow.parquet.read_table(file).to_pylist(), str(file), field, kind)
        except (OSError, ValueError) as error:
            raise UserError(f"data.path: {file} is no parquet file ({reason(error)})") from error
        return
    text = read_text(file, SAID)
    if file.suffix.lower() == ".jsonl":
        yield from _rows((row for _, row in read_lines(file, text, SAID)), str(file), field, kind)
        return
    parts = [text.strip()] if root.is_dir() else paragraphs(text)
    yield from (Document(part, kind) for part in parts if part)


def _rows(rows: Iterable[Any], source: str, field: str, kind: str = "") -> Iterator[Document]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or not ({field, "messages"} & row.keys()):
            keys = first_few([*map(str, row)], 8) if isinstance(row, Mapping) else type(row).__name__
            raise UserError(
                f'data.path: row {number} of {source} has no "{field}" and no "messages" ({keys}): data.field=…'
            )
        own = str(row.get("kind") or kind)
        if field not in row:
            yield Document("", own, _conversation(row["messages"], f"row {number} of {source}"))
        elif not isinstance(row[field], str):
            raise UserError(f'data.path: "{field}" in row {number} of {source} is no text: data.field=…')
        elif HALF.search(row[field]):
            raise UserError(f'data.path: "{field}" in row {number} of {source} holds half a character; mend the row')
        elif row[field].strip():
            yield Document(row[field], own)


def _conversation(messages: Any, where: str) -> tuple[Mapping[str, str], ...]:
    fine = isinstance(messages, Sequence) and not isinstance(messages, str) and len(messages) > 0
    if not fine or not all(isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in messages):
        raise UserError(f"data.path: messages in {where} must be a list of {{role, content}}")
    for message in messages:
        content = message["content"]
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise UserError(f"data.path: a message's content in {where} is no text ({type(content).__name__})")
        if HALF.search(json.dumps(content, ensure_ascii=False, default=str)):
            raise UserError(f"data.path: a message in {where} holds half a character; mend the row")
    return tuple(dict(message) for message in messages)


def without_repeats(documents: Sequence[Document]) -> list[Document]:
    """The first of each group of equal documents: one that stands on both sides of a split would be a leak."""
    first: dict[str, Document] = {}
    for document in documents:
        first.setdefault(digest(document), document)
    return list(first.values())


def digest(document: Document) -> str:
    """Hash of a document's content."""
    text = json.dumps([document.content, document.messages and list(document.messages)], ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def overlapping(documents: Sequence[Document], held_out: Sequence[Document], *, length: int, share: float) -> list[int]:
    """Which documents have more than a share of their runs of `length` words in the held-out ones too."""
    numbers: dict[str, int] = {}
    known = np.unique(np.concatenate([np.empty(0, np.uint64), *(_runs(one, length, numbers) for one in held_out)]))
    found = []
    for place, document in enumerate(documents):
        own = np.unique(_runs(document, length, numbers))
        if len(own) and np.isin(own, known, assume_unique=True).mean() > share:
            found.append(place)
    return found


def _runs(document: Document, length: int, numbers: dict[str, int]) -> np.ndarray:
    """Hashes (R,) of all runs of so many words, in lower case and without punctuation; `numbers` are those of words."""
    words = re.findall(r"\w+", document.content.lower())
    known = np.array([numbers.setdefault(word, len(numbers) + 1) for word in words], np.uint64)
    if len(known) < length:
        return np.empty(0, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(known, length)
    factors = np.array([pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(1, length + 1)], np.uint64)
    mixed = windows * factors  # wraps around
    return (mixed ^ (mixed >> np.uint64(29))).sum(1, dtype=np.uint64)
