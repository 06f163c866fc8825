"""The words of commands that compose no config: key=value, and files where a command takes some."""

import os
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from distillab.commands.words import understood
from distillab.core.allowed import Flag
from distillab.core.errors import UserError
from distillab.core.group import Group
from distillab.core.instantiate import did_you_mean

PLACES = {"paths.store": "store", "data.root": "root", "data.path": "path"}  # of a run that lie elsewhere now


def read_words(words: Sequence[str], group: type[Group], name: str, manual: str) -> dict[str, Any]:
    """The words of a command line for a group, those without a sign, and files with one, as `inputs`. Raises UserError."""
    given: dict[str, Any] = {}
    fields = [one for one in group.__dataclass_fields__ if one != "inputs"]
    shown = {field: key for key, field in PLACES.items() if field in fields}
    keys = {shown.get(one, one): one for one in fields}
    takes_inputs = "inputs" in group.__dataclass_fields__
    for word in understood(words):
        key, sign, value = word.partition("=")
        if key in keys and sign and not value:
            raise UserError(f"{word} says nothing: write {key}=…, or leave it out ({manual})")
        if key in keys and sign:
            given[keys[key]] = _value(value.strip("\"'"), group.__dataclass_fields__[keys[key]].type)
        elif takes_inputs and (not sign or os.path.lexists(word)):
            given.setdefault("inputs", []).append(word)
        else:
            known = ", ".join(f"{one}=…" for one in keys)
            raise UserError(f"{word}: distillab {name} takes {known}{did_you_mean(key, list(keys))} ({manual})")
    return given


def _value(text: str, kind: Any) -> Any:
    """What a text stands for in a field of this kind: a list is written a,b or [a,b], and paths stay text."""
    plain = get_args(kind)[0]
    if get_origin(plain) is list:
        return [name for name in text.strip("[]").replace(" ", "").split(",") if name]
    if text == "null":
        return None
    if kind == Flag:
        return {"true": True, "false": False}.get(text, text)
    return int(text) if plain in (int, int | None) and text.isdecimal() else text
