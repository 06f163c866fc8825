"""One result per run: `runs/<name>/<config hash>/result.json`, which every table, plot and report reads."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shlex
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import distillab

SCHEMA = 1

# What says where and how loudly a run happens, not what it computes. Dotted: inside a group.
NOT_HASHED = (
    "name",
    "logger",
    "paths",
    "cache.limit_gb",
    "data.cache_dir",
    "launcher",
    "rerun",
    "roi",
    "teacher.shard",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.progress_bar",
)

PACKAGES = ("torch", "lightning", "hydra-core", "torchvision")

_REQUIRED = {
    "config_hash": str,
    "created": str,
    "data": dict,
    "name": str,
    "protocol": str,
    "seeds": dict,
    "strategy": str,
    "student": dict,
}


def config_hash(config: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that name what a resolved config computes, whatever the order of its keys."""
    kept = without(config, NOT_HASHED)
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:10]


def without(config: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The config without these keys; dotted ones are inside a group."""
    kept = {}
    for key, value in config.items():
        if key in names:
            continue
        inner = tuple(name.removeprefix(f"{key}.") for name in names if name.startswith(f"{key}."))
        kept[key] = without(value, inner) if inner and isinstance(value, Mapping) else value
    return kept


def versions() -> dict[str, str | None]:
    """Versions of distillab, Python and the packages that decide a number; None for what is not installed.

    `commit` is the checkout's git commit ("-dirty" where files were changed), None outside a checkout.
    """
    found: dict[str, str | None] = {"distillab": distillab.__version__, "commit": _commit()}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[3]
    # An installed wheel may lie inside somebody else's repository, whose commit says nothing about this code.
    if not (root / ".git").exists() or not (root / "src" / "distillab").is_dir():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def method(result: Mapping[str, Any]) -> str:
    """The strategy and, unless one teacher was fixed beforehand, the scheme: `kd`, `kd (ema)`."""
    scheme = result.get("scheme", "offline")
    return result["strategy"] if scheme == "offline" else f"{result['strategy']} ({scheme})"


def command(result: Mapping[str, Any]) -> str:
    """What makes this run again: of a sweep's cell the cell alone."""
    about_the_sweep = ("sweep=", "+sweep=", "launcher=", "hydra")
    words = [word for word in result.get("overrides") or [] if not word.startswith(about_the_sweep)]
    return shlex.join(["python", "train.py", *words]) if words else result.get("command") or "python train.py"


def model_entry(name: str, record: Mapping[str, Any], figures: Mapping[str, Any], watched: str) -> dict[str, Any]:
    """A model's part of the result: `top1` is on the test images, `top1_validation` beside it.

    Args:
        name: the network's.
        record: of its training: `top1` by split, and what else is known.
        figures: of the trained network.
        watched: the split that was looked at after every epoch; where it was the test images, the best epoch's and the
            last one's top-1 stand beside that of the epoch that was selected.
    """
    top1 = record["top1"]
    entry = {"name": name, "top1": top1["test"], "top1_validation": top1.get("validation"), **figures}
    if watched == "test" and record.get("curves"):
        by_epoch = [epoch["val/top1"] for epoch in record["curves"]]
        entry |= {"top1_best": max(by_epoch), "top1_last": by_epoch[-1]}
    return entry | {key: value for key, value in record.items() if key not in ("top1", "folder")}


def gain_and_gap(
    student_top1: float, baseline_top1: float | None, teacher_top1: float | None
) -> tuple[float | None, float | None]:
    """What distillation brought over the same student alone, and the share of the gap to the teacher that it closed.

    Args:
        student_top1: accuracy of the distilled student, from 0 to 1 like the others.
        baseline_top1: accuracy of the same student trained alone, None where there is none.
        teacher_top1: accuracy of the teacher, None where there is none.

    Returns:
        The gain (positive is better) and the share (1 reaches the teacher); None without a baseline, the share also
        where the teacher is not above the baseline.
    """
    if baseline_top1 is None:
        return None, None
    gain = student_top1 - baseline_top1
    if teacher_top1 is None or teacher_top1 <= baseline_top1:
        return gain, None
    return gain, gain / (teacher_top1 - baseline_top1)


def load_all(runs: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """All results at `runs/*/*/result.json`, in the order of their paths.

    Returns:
        The results, and one line for each file that was left out (half-written, of another schema, or broken by hand).
    """
    results, left_out = [], []
    for path in sorted(runs.glob("*/*/result.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            complaint = _complaint(result)
        except (OSError, ValueError) as error:
            complaint = f"it cannot be read ({error})"
        if complaint:
            left_out.append(f"{path} is left out: {complaint}")
        else:
            results.append(result)
    return results, left_out


def _complaint(result: Any) -> str | None:
    """What keeps a parsed file from being a result, or None."""
    if not isinstance(result, dict) or "schema" not in result:
        return "it is not a result (no schema)"
    if result["schema"] != SCHEMA:
        return f"its schema is {result['schema']!r}, this version reads {SCHEMA}"
    for key, kind in _REQUIRED.items():
        if not isinstance(result.get(key), kind):
            return f"`{key}` is missing or not a {kind.__name__}"
    if not isinstance(result["data"].get("name"), str):
        return "`data.name` is missing or not a str"
    for role in ("teacher", "baseline", "student"):
        if result.get(role) is not None and (complaint := _model_complaint(role, result[role])):
            return complaint
    for key in ("gain", "gap_closed"):
        if result.get(key) is not None and not _is_number(result[key]):
            return f"`{key}` is {result[key]!r}, not a number"
    return None


def _model_complaint(role: str, model: Any) -> str | None:
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        return f"`{role}.name` is missing or not a str"
    top1, count = model.get("top1"), model.get("parameters")
    if not _is_number(top1) or not 0 <= top1 <= 1:
        return f"`{role}.top1` is {top1!r}, not a number from 0 to 1"
    if not _is_number(count) or count <= 0:
        return f"`{role}.parameters` is {count!r}, not a positive number"
    for key in ("multiply_adds", "latency_ms", "size_bytes"):
        if model.get(key) is not None and not _is_number(model[key]):
            return f"`{role}.{key}` is {model[key]!r}, not a number"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
