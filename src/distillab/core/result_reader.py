"""Reads result files, one or those of all runs; a file that is not a valid result is left out, with the reason."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distillab.core.errors import printable
from distillab.core.result import ROLES, SCHEMA, Result
from distillab.core.result_parts import Efficiency, Training

LARGEST = 64 * 10**6  # bytes of a file
DEEPEST = 40  # levels of brackets
LONGEST = {"name": 1000, "config_hash": 255, "": 20_000}  # characters by key
SHARES = {"top1", "top1_best", "top1_last", "top5", "balanced_accuracy", "macro_f1"}  # figures from 0 to 1
WRITTEN = ("prompt", "teacher", "baseline", "student")  # keys of text samples, which have lines
ROUNDED = 1e-9  # by which a gain may differ from that of its two figures
SHOWN = 80  # characters of a complaint's parts


def load_all(runs: Path) -> tuple[list[Result], list[str]]:
    """All results at `runs/*/*/result.json` in the order of their paths, and a line for each file that is none."""
    found, left_out = by_path(runs)
    return list(found.values()), left_out


def by_path(runs: Path) -> tuple[dict[Path, Result], list[str]]:
    """As `load_all`, each result by the path of its file."""
    found = {path: read(path) for path in sorted(runs.glob("*/*/result.json"))}
    left_out = [one_line(f"{path} is left out: {complaint}") for path, (one, complaint) in found.items() if one is None]
    return {path: result for path, (result, _) in found.items() if result is not None}, left_out


def one_line(text: str) -> str:
    """A text in one line; a path may hold what no text does."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def read(path: Path) -> tuple[Result | None, str | None]:
    """The result that a file holds and None, or None and what keeps the file from being one."""
    try:
        if path.exists() and not path.is_file():
            return None, "it is not a file"
        if path.stat().st_size > LARGEST:
            return None, f"it has more than {LARGEST // 10**6} MB"
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        _check(content)
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except (ValueError, RecursionError) as error:
        return None, f"it cannot be read ({str(error)[:SHOWN]})"
    if not isinstance(content, dict) or "schema" not in content:
        return None, "it is not a result (no schema)"
    if content["schema"] not in (1, SCHEMA):
        return None, f"its schema is {repr(content['schema'])[:SHOWN]}, this version reads 1 and {SCHEMA}"
    try:
        content = _printable(content)
        result = Result.model_validate(from_schema_1(content) if content["schema"] == 1 else content)
        _check_figures(result)
        result = _without_another_reference(result)
        _check_gains(result)
        return result, None
    except (ValueError, TypeError, AttributeError) as error:
        return None, (_complaint(error) if isinstance(error, ValidationError) else str(error))[: 2 * SHOWN]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _check(content: Any, key: str = "", depth: int = 0) -> None:
    """Raise ValueError for what JSON can hold and no page can show."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} levels of brackets")
    if isinstance(content, dict):
        _check(list(content), key, depth)
        for name, value in content.items():
            _check(value, name, depth + 1)
    elif isinstance(content, list):
        for value in content:
            _check(value, key, depth + 1)
    elif isinstance(content, str):
        if not content.isprintable():
            content.encode()  # raises for half of a character
        if len(content) > LONGEST.get(key, LONGEST[""]):
            raise ValueError(f"`{key[:SHOWN]}` has {len(content)} characters")
    elif isinstance(content, int | float) and not abs(content) < (2**63 if isinstance(content, int) else 1e100):
        raise ValueError(f"`{key[:SHOWN]}` is a number too large for any figure")


def _printable(content: Any, key: str = "") -> Any:
    """The content with control characters escaped, but for samples of text: a name may forge a line, or stop a chart."""
    if isinstance(content, dict):
        return {name: _printable(value, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_printable(value, key) for value in content]
    return printable(content) if isinstance(content, str) and key not in WRITTEN else content


def _without_another_reference(result: Result) -> Result:
    """The result without comparisons that its reference has no answers for.

    Earlier versions compared a student whose head was fitted afterwards with the student alone, and so took for a gain
    what the head had brought.
    """
    if result.score(result.reference) is not None or not result.head_fitted:
        return result
    student, cost = result.student, result.cost
    if against := student.against_teacher:
        student = student.model_copy(update={"against_teacher": against.model_copy(update={"excess": None})})
    if cost and cost.equal_compute:
        gains = dict.fromkeys(("gain_equal_steps", "gain_live", "gain_warm_cache"))
        equal = cost.equal_compute.model_copy(update=gains)
        cost = cost.model_copy(update={"equal_compute": equal})
    lacking = dict.fromkeys(("gain", "gap_closed", "gap", "paired", "against_alone", "limits"))
    return result.model_copy(update={"student": student, "cost": cost, **lacking})


def _check_figures(result: Result) -> None:
    """Raise ValueError for figures that no run has."""
    longer = result.longer
    figures = [(role, each) for role, one in result.entries.items() for each in (one.metrics, one.validation)]
    for role, known in [*figures, *([("longer", longer.metrics)] if longer else [])]:
        for name in SHARES & known.keys():
            if not 0 <= known[name] <= 1:
                raise ValueError(f"`{role}` has {name} {known[name]!r}, not a number from 0 to 1")
    if result.primary.name in SHARES and not result.primary.higher_is_better:
        raise ValueError(f"`primary.higher_is_better` is false, and of {result.primary.name} more is better")
    if longer and (longer.epochs < 1 or not (result.baseline or result.alone)):
        raise ValueError("`longer` has no epochs, or nothing that it is longer than")


def _check_gains(result: Result) -> None:
    """Raise ValueError for a gain that is not the difference of the two figures beside it."""
    name, equal = result.primary.name, result.cost and result.cost.equal_compute
    known = [("gain", result.gain, result.reference, result.score(result.reference))]
    if equal:
        longer = result.longer and result.longer.metrics.get(name)
        known += [
            ("cost.equal_compute.gain_equal_steps", equal.gain_equal_steps, "baseline", result.score("baseline")),
            ("cost.equal_compute.gain_live", equal.gain_live, "longer", longer),
        ]
    for what, gain, role, over in known:
        if gain is not None and over is not None:
            found = result.primary.gain(result.primary.value, over)
            if abs(gain - found) > ROUNDED:
                raise ValueError(f"`{what}` is {gain:.9g}, and `student` and `{role}` differ by {found:.9g} in {name}")


def _complaint(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"`{where}` is missing"
    what = " ".join(f"{first['input']!r}".split())[:SHOWN]
    return f"`{where}` is {what}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")


# Schema 1 knew image classification alone, and kept all that it knew of a network in one flat object.
_FIGURES = ("top1", "top5", "nll", "brier", "calibration_error", "balanced_accuracy", "macro_f1")
_PARTS = {"metrics": (*_FIGURES, "top1_best", "top1_last")}
_PARTS |= {"efficiency": tuple(Efficiency.model_fields), "training": tuple(Training.model_fields)}


def from_schema_1(old: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of schema 1 in the form of this one; what is malformed there stays so, and is refused."""
    result = _given(old)
    result |= {role: _entry(role, result[role]) for role in ROLES if isinstance(result.get(role), dict)}
    student = result.get("student")
    top1 = student["metrics"].get("top1") if isinstance(student, dict) else None
    result |= {"task": "image_classification", "primary": {"name": "top1", "value": top1}}
    if isinstance(result.get("lineage"), list):
        result["lineage"] = [_trained(made) if isinstance(made, dict) else made for made in result["lineage"]]
    if isinstance(longer := result.get("longer"), dict):
        result["longer"] = longer | {"metrics": {"top1": longer.get("top1")}}
    cost = result.get("cost")
    if isinstance(cost, dict) and isinstance(equal := cost.get("equal_compute"), dict):
        result["cost"] = cost | {"equal_compute": equal | {"score": equal.get("top1")}}
    return result


def _entry(role: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    top1 = flat.get("top1")
    if not isinstance(top1, int | float) or not 0 <= top1 <= 1:
        raise ValueError(f"`{role}.top1` is {top1!r}, not a number from 0 to 1")
    known = _given(flat)
    entry = {key: known[key] for key in ("name", "per_class", "against_teacher") if key in known}
    entry |= {part: {key: known[key] for key in keys if key in known} for part, keys in _PARTS.items()}
    return entry | {"validation": {"top1": flat.get("top1_validation")}}


def _trained(made: Mapping[str, Any]) -> dict[str, Any]:
    known = _given(made)
    top1 = known.pop("top1", None)
    by_split = top1 if isinstance(top1, dict) else {}
    return known | {"metrics": {"top1": by_split.get("test")}, "validation": {"top1": by_split.get("validation")}}


def _given(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What is there: all that is absent has a default."""
    return {key: value for key, value in mapping.items() if value is not None}
