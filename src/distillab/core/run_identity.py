"""What names a run: the hash of its config, the versions of the code, its method, and the command that repeats it."""

import hashlib
import json
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import distillab
from distillab.core.own_code import code_of

if TYPE_CHECKING:
    from distillab.core.result import Result

# Keys that say where a run lies, where it runs and what it reports, not what it computes. Dotted: inside a group.
NOT_HASHED = ("name", "logger", "paths", "cache.limit_gb", "data.cache_dir", "launcher", "doctor", "quiet", "rerun", "roi",
              "export", "push_to_hub", "license",
              "teacher.shard", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
              "trainer.progress_bar")  # fmt: skip

PACKAGES = ("torch", "lightning", "hydra-core", "torchvision")

# What `vary` may name, in this order: the key that then has the number of the run, and what each run makes anew.
VARIED = {
    "init": ("seed", "initialisations"),
    "split": ("data.split_seed", "splits"),
    "teacher": ("teacher.seed", "teachers"),
    "views": ("data.view_seed", "augmentations"),
}
INIT = ["init"]  # alone: the first weights, batch order and dropout of the student
NO_TRACE = {"teacher.adapt": None, "vary": INIT}  # keys that came later, and what they are where they change nothing


def config_hash(config: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that name what a resolved config computes, whatever the order of its keys."""
    off = (key for key, value in NO_TRACE.items() if _at(config, key) == value)
    kept = without(config, (*NOT_HASHED, *off))
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _at(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key of a config; None where there is none."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def population(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in `vary`, in the order of `VARIED`; configs of earlier versions have none, and vary the init."""
    return tuple(name for name in VARIED if name in (config.get("vary") or INIT))


def varied(result: "Result") -> tuple[str, ...]:
    """The keys of the config in which the runs of one row may differ: the run's number, and what follows it."""
    return "seed", *(VARIED[name][0] for name in population(result.config) if name != "init")


def without(config: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The config without these keys; dotted ones are inside a group."""
    kept = {}
    for key, value in config.items():
        if key in names:
            continue
        inner = tuple(name.removeprefix(f"{key}.") for name in names if name.startswith(f"{key}."))
        kept[key] = without(value, inner) if inner and isinstance(value, Mapping) else value
    return kept


def versions(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Versions of distillab, Python and the packages that decide a number; None for what is not installed.

    `commit` is the checkout's git commit ("-dirty" where files were changed), None outside a checkout; `threads` are those
    of a network's arithmetic on the CPU, whose sums differ with them in the last bits; `code` stands for the source of what
    the person wrote, where the config names any.
    """
    import torch

    found = {"distillab": distillab.__version__, "commit": _commit(), "python": platform.python_version()}
    for package in PACKAGES:
        found[package] = None
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    code = code_of(config)
    return found | {"threads": str(torch.get_num_threads())} | ({"code": code[:12]} if code else {})


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[3]
    # An installed wheel may lie inside somebody else's repository, whose commit says nothing about this code.
    if not (root / ".git").exists() or not (root / "src" / "distillab").is_dir():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed words
        return done.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def population_words(names: Sequence[str]) -> str:
    """What the runs of a population differ in: `new initialisations and splits`; empty for no names."""
    words = [VARIED[name][1] for name in names]
    return f"new {' and '.join(filter(None, (', '.join(words[:-1]), words[-1])))}" if words else ""


def method_name(strategy: str, scheme: str) -> str:
    """The strategy and, unless one teacher was fixed beforehand, the scheme: `kd`, `kd (ema)`."""
    return strategy if scheme == "offline" else f"{strategy} ({scheme})"


def repeating_command(typed: str, overrides: Sequence[str]) -> str:
    """The command that repeats a run of these overrides: of a sweep's cell the cell alone, by the sweep's own numbers.

    `typed` is the command that made it; empty where it is not known.
    """
    words = [word for word in overrides if not word.startswith(("launcher=", "hydra"))]
    if not words:
        return typed or "python train.py"
    if any(word.lstrip("+").startswith("sweep=") for word in words):
        words.append("hydra.mode=RUN")  # or the file would make the whole sweep of it
    return shlex.join(["python", "train.py", *config_folder(_split(typed)), *words])


def config_folder(typed: Sequence[str]) -> list[str]:
    """Those words of a command that name the person's own folder of configs."""
    return [typed[place] for place in _folder_places(typed)]


def without_folder(typed: Sequence[str]) -> list[str]:
    """The other words of a command."""
    found = _folder_places(typed)
    return [word for place, word in enumerate(typed) if place not in found]


def own_folder(typed: Sequence[str]) -> Path | None:
    """The person's own folder of configs, which a command names."""
    words = [word.partition("=")[2] if word.startswith("-") else word for word in config_folder(typed)]
    return next((Path(word) for word in words if word), None)


def _folder_places(typed: Sequence[str]) -> list[int]:
    found = []
    for place, word in enumerate(typed):
        if word in ("--config-dir", "-cd"):
            found += [place, place + 1][: len(typed) - place]
        elif word.startswith(("--config-dir=", "-cd=")):
            found.append(place)
    return found


def _split(typed: str) -> list[str]:
    try:
        return shlex.split(typed)
    except ValueError:  # an older version did not quote what it wrote down
        return typed.split()
