"""The values that a key of the config may have; one description serves the check and its message."""

import json
import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

from distillab.core.errors import UserError


class Allowed:
    """A set of values. As metadata of an `Annotated` field it makes pydantic check the field, without conversion."""

    expected: str  # what is allowed, in words

    def meant(self, value: Any) -> Any:
        """An allowed value that a wrong one may stand for; None where nothing tells."""
        return None

    def allows(self, value: Any) -> bool:
        """Whether the value is one of them."""
        raise NotImplementedError

    def check(self, value: Any, path: str, example: Any = None) -> Any:
        """The value; raises UserError with the key, and an override by the example, where it is not allowed."""
        if not self.allows(value):
            raise UserError(refusal(path, self.expected, value, example))
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def check(value: Any) -> Any:
            if not self.allows(value):
                known = {"expected": self.expected, "meant": self.meant(value)}
                raise PydanticCustomError("not_allowed", "{expected}", known)
            return value

        return core_schema.no_info_plain_validator_function(check)


@dataclass(frozen=True)
class Range(Allowed):
    """Finite numbers within the given bounds."""

    low: float | None = None  # itself allowed, as is `high`
    above: float | None = None
    high: float | None = None
    below: float | None = None
    whole: bool = False  # no fractions
    null: bool = False  # None too

    @property
    def expected(self) -> str:
        """What is allowed, in words."""
        bounds = (("from", self.low), ("above", self.above), ("up to", self.high), ("below", self.below))
        words = [f"{word} {bound}" for word, bound in bounds if bound is not None]
        number = " ".join(["a whole number" if self.whole else "a number", *words])
        return f"{number}, or null" if self.null else number

    def allows(self, value: Any) -> bool:
        """Whether the value lies in the range; a truth value is no number."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return value is None and self.null
        return (
            (isinstance(value, int) or math.isfinite(value))  # a whole number may be too large for a float
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class Words(Allowed):
    """Text that is not empty."""

    null: bool = False  # None too

    @property
    def expected(self) -> str:
        """What is allowed, in words."""
        return "text, not empty" + (", or null" if self.null else "")

    def allows(self, value: Any) -> bool:
        """Whether the value is such a text."""
        return bool(value.strip()) if isinstance(value, str) else value is None and self.null


@dataclass(frozen=True)
class Limit(Allowed):
    """A number of things, or a share of them, or all."""

    expected: str = "a whole number from 1, a share above 0 up to 1.0, or null"

    def allows(self, value: Any) -> bool:
        """Whether the value is one of these."""
        whole, share = Range(1, whole=True, null=True), Range(above=0, high=1)
        return whole.allows(value) or (isinstance(value, float) and share.allows(value))


class Choice(Allowed):
    """One of several values, compared by type too: 0 is not false."""

    def __init__(self, *values: Any) -> None:
        self.values = values
        named = ", ".join(dict.fromkeys(spelled(value) for value in values if value is not None))
        self.expected = f"one of {named}" + (" or null" if None in values else "")

    def allows(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return any(type(value) is type(one) and value == one for one in self.values)

    def meant(self, value: Any) -> Any:
        """The word that is spelled most like it, else the first."""
        words = [one for one in self.values if isinstance(one, str)]
        return next(iter(get_close_matches(str(value).lower(), words, n=1) or words), None)


class FolderName(Allowed):
    """Names of one folder: with a path of several parts a run would lie where nothing looks for it, or anywhere."""

    expected = "the name of one folder, with no / or \\ and up to 200 bytes, e.g. name=mine"

    def allows(self, value: Any) -> bool:
        """Whether the value is such a name."""
        whole = isinstance(value, str) and value.isprintable() and value.strip(". ") != ""
        return whole and not set("/\\") & set(value) and len(value.encode()) <= 200


def refusal(path: str, expected: str, value: Any, example: Any = None) -> str:
    """The message about a value that is not allowed; the example, where there is one, says how to mend it."""
    got = f'"{value}"' if isinstance(value, str) and (expected.startswith("one of") or not value) else spelled(value)
    return f"{path} must be {expected}, got {got}" + ("" if example is None else f"; set {path}={spelled(example)}")


def spelled(value: Any) -> str:
    """A value as the command line spells it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(spelled(one) for one in value)}]"
    return text if (text := str(value)).isprintable() else json.dumps(text)  # on one line


Flag = Annotated[bool, Choice(True, False)]
Count = Annotated[int, Range(1, whole=True)]
CountOrNone = Annotated[int | None, Range(1, whole=True, null=True)]
Amount = Annotated[float, Range(0)]
AmountOrNone = Annotated[float | None, Range(0, null=True)]
