"""What a teacher writes from: lines, JSONL or topics; documents to go on with; nothing."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from distillab.core.errors import UserError
from distillab.data.text.synthetic.config import TOPIC, Generation

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
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); convert it, e.g. with iconv") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name another with {override}=…") from error
    if path.suffix == ".jsonl":
        found = list(_rows(path, content, key))
    else:
        parts = content.split("\n") if lines else content.split("\n\n")
        found = [part.strip() for part in parts if part.strip()]
    if not found:
        raise UserError(f"{path} is empty: it needs one {key} or more; name another with {override}=…")
    return found


def _rows(path: Path, content: str, key: str) -> Iterator[str]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"line {number} of {path} is no JSON ({error})") from error
        text = row.get(key) if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise UserError(f'line {number} of {path} needs a "{key}" that is text, as in {{"{key}": "…"}}')
        if not text.strip():
            raise UserError(f'the "{key}" in line {number} of {path} is empty; fill it or remove the line')
        yield text


def texts_hash(texts: list[str]) -> str:
    """SHA-256 of texts in their order, 16 digits."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
