"""A group of the config as a typed, frozen object, and the one-line message about what it cannot take."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self, get_args

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from distillab.core.allowed import refusal
from distillab.core.errors import UserError
from distillab.core.instantiate import unknown_key

# What pydantic's own errors expect, in our words.
EXPECTED = dict.fromkeys(("dict_type", "mapping_type", "dataclass_type"), "a mapping")
EXPECTED |= {
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "too_short": "a list that is not empty",
}

group = dataclass(frozen=True, config=ConfigDict(extra="forbid"))


class Group:
    """Base of the groups: dataclasses whose values are checked, not converted, and whose keys must be known.

    A check across fields is a method decorated with `model_validator(mode="after")`, which raises ValueError; `{path}`
    in its message becomes the dotted path of the group.
    """

    PATH: ClassVar[str] = ""  # of the group in the config, for messages; `of` may name another

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None = None, path: str | None = None) -> Self:
        """The group that a mapping describes; None and keys that it lacks take the defaults. Raises UserError."""
        if isinstance(given, cls):
            return given
        try:
            return cls(**(given or {}))
        except ValidationError as error:
            raise UserError(_line(cls, error.errors()[0], cls.PATH if path is None else path)) from error


def _line(owner: type[Group], error: Mapping[str, Any], path: str) -> str:
    """What was wrong, what is allowed, and the override that mends it."""
    location, kind = [str(part) for part in error["loc"]], error["type"]
    for part in location[:-1]:
        owner = _group_of(owner, part) or owner
    names = [one.name for one in fields(owner) if one.repr]  # the others are no keys
    *parents, key = [path, *location] if path else location or [""]
    parent, whole = ".".join(parents), ".".join([*parents, key])
    if kind == "unexpected_keyword_argument":
        return unknown_key(parent, key, names)
    if kind == "value_error":
        return str(error["ctx"]["error"]).replace("{path}", whole)
    if kind == "missing":
        return f"{whole} is missing: set {whole}=…"
    expected = error["ctx"]["expected"] if kind == "not_allowed" else EXPECTED.get(kind, error["msg"])
    mend = _default(owner, key)
    if mend == "null" and kind == "not_allowed":  # somebody wanted something
        mend = error["ctx"]["meant"] or mend
    return refusal(whole, expected, error["input"], mend)


def _group_of(owner: type[Group], name: str) -> type[Group] | None:
    """The group that a field of a group holds."""
    field = owner.__pydantic_fields__.get(name)
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Group)), None)


def _default(owner: type[Group], name: str) -> Any:
    """What mends a field: its default; `null` is spelled out, since None stands for no default."""
    field = owner.__pydantic_fields__.get(name)
    if field is None or field.is_required():
        return None
    default = field.get_default(call_default_factory=True)
    return "null" if default is None else default
