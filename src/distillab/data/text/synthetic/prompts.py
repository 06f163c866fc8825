"""What a teacher writes from: lines, JSONL or topics; documents to go on with; nothing."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from distillab.core.errors import UserError
from distillab.data.text.synthetic.config import TOPIC, Generation
from distillab.data.text.text_files import HALF, paragraphs, read_lines, read_text

KEYS = {"prompts": "prompt", "topics": "topic", "documents": "text"}  # of a row of JSONL


def read_prompts(config: Generation) -> list[str]:
    """The prompts, in order; whole documents for source=documents, one empty text for source=bos. Raises UserError."""
    if config.source == "bos":
        return [""]
    found = read_texts(Path(config.file or ""), "file", KEYS[config.source], lines=config.source != "documents")
    return [config.template.replace(TOPIC, topic) for topic in found] if config.source == "topics" else found


def read_texts(path: Path, override: str, key: str, *, lines: bool) -> list[str]:
    """The `key` of each row of a JSONL file; of any other file its lines, or its parts between blank lines.

    Blank lines hold no text and are left out. Raises UserError, which names the override, for a file that is absent,
    not UTF-8 or without text, and for a row of JSONL that is damaged or empty.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; name one with {override}=…")
    content = read_text(path, f"{override}: ")
    if path.suffix.lower() == ".jsonl":
        found = list(_rows(path, content, key))
    else:
        found = [part.strip() for part in content.split("\n") if part.strip()] if lines else paragraphs(content)
    if not found:
        raise UserError(f"{path} is empty: it needs one {key} or more; name another with {override}=…")
    return found


def _rows(path: Path, content: str, key: str) -> Iterator[str]:
    for number, row in read_lines(path, content):
        text = row.get(key) if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise UserError(f'line {number} of {path} needs a "{key}" that is text, as in {{"{key}": "…"}}')
        if HALF.search(text):
            raise UserError(f'the "{key}" in line {number} of {path} holds half a character; mend the line')
        if not text.strip():
            raise UserError(f'the "{key}" in line {number} of {path} is empty; fill it or remove the line')
        yield text


def texts_hash(texts: list[str]) -> str:
    """SHA-256 of texts in their order, 16 digits."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
