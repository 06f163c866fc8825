"""The one exception whose text is meant for the user, and text as it can be shown."""

import re
from collections.abc import Sequence


def printable(text: str) -> str:
    """The text as any terminal, file and plot can hold it: control characters and a name's bytes that are no UTF-8 escaped.

    Python decodes such a byte to a lone surrogate, which no encoding writes: `caf\\udce9` becomes `caf\\\\xe9`.
    """
    return re.sub("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def first_few(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, for a message: `a, b, c, …`."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def reason(error: BaseException, most: int = 200) -> str:
    """What an error of another library says, in one line: its first sentence, as the rest is often advice of its own."""
    said = " ".join(str(error).split()) or type(error).__name__
    said = re.split(r"(?<=[^.]\.)\s(?=[A-Z])", said)[0].rstrip(".: ")
    return said if len(said) <= most else f"{said[:most]}…"


class UserError(Exception):
    """Bad input, in one line: what was wrong, what is allowed, which override mends it."""

    def __init__(self, message: str = "") -> None:
        super().__init__("\n".join(map(printable, message.split("\n"))))
