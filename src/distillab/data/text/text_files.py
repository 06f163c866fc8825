"""Reads text files: plain ones, and JSON line by line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distillab.core.errors import UserError

HALF = re.compile("[\ud800-\udfff]")  # JSON can hold half of a character, which no encoding writes


def read_text(file: Path, said: str = "") -> str:
    """The text of a UTF-8 file, without the mark that Windows puts in front; `said` begins each message.

    Raises UserError for a file that cannot be read, and for other encodings.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{said}{file} is not UTF-8 (byte {error.start}); convert it, e.g. with iconv") from error
    except OSError as error:
        raise UserError(f"{said}{file} cannot be read ({error.strerror}); name another") from error


def read_lines(file: Path, text: str, said: str = "") -> Iterator[tuple[int, Any]]:
    """The number and the value of each line of JSON that is not blank. Raises UserError for a line that is none."""
    for number, line in enumerate(text.split("\n"), 1):  # a string may hold the other ends of lines of `splitlines`
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{said}line {number} of {file} is no JSON ({error})") from error


def paragraphs(text: str) -> list[str]:
    """The parts between blank lines, without those that hold no text."""
    return [part.strip() for part in re.split(r"\n[^\S\n]*\n", text) if part.strip()]
