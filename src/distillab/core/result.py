"""One result per run: `runs/<name>/<config hash>/result.json`, which every table, plot and report reads."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
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
    """What makes this run again: of a sweep's cell the cell alone, by the numbers that the sweep's file sets for all."""
    about_the_sweep = ("launcher=", "hydra")
    words = [word for word in result.get("overrides") or [] if not word.startswith(about_the_sweep)]
    if not words:
        return result.get("command") or "python train.py"
    if any(word.lstrip("+").startswith("sweep=") for word in words):
        words.append("hydra.mode=RUN")  # or the file would make the whole sweep of it
    return shlex.join(["python", "train.py", *config_folder(_split(result.get("command") or "")), *words])


def config_folder(typed: Sequence[str]) -> list[str]:
    """Those words of a command that name the person's own folder of configs."""
    found = []
    for place, word in enumerate(typed):
        if word in ("--config-dir", "-cd"):
            found += typed[place : place + 2]
        elif word.startswith(("--config-dir=", "-cd=")):
            found.append(word)
    return found


def _split(typed: str) -> list[str]:
    try:
        return shlex.split(typed)
    except ValueError:  # an older version did not quote what it wrote down
        return typed.split()


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
