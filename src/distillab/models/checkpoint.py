"""Reads weights from files without running code in them, and puts them into a network."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from distillab.core.errors import UserError

CONTAINERS = ("state_dict", "model", "model_state_dict", "net")
SHOWN = 3  # tensors that a message names


def read_weights(path: str | Path, key: str = "teacher.checkpoint") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint by name, and the metadata of a file that distillab exported (else empty).

    Takes safetensors, a plain state dict, a Lightning checkpoint, or a dict that holds one under one of `CONTAINERS`.
    Code in a file is never run. Raises UserError, which names the config's `key` for it, for a file that is absent,
    damaged, no checkpoint, or a pickled model.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{key}: there is no file {path}")
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _read_safetensors(path, f"{key}: ")
    if start[:2] != b"PK" and start[:1] != b"\x80":
        raise UserError(f"{key}: {path} is no checkpoint (expected .safetensors, or a file written by torch.save)")
    return _read_pickled(path, key), {}


def _read_pickled(path: Path, key: str) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{key}: {path} holds a pickled model or other code, which is not run here; if you trust it, convert it: "
            f'model = torch.load("{path}", weights_only=False); '
            f'torch.save(model.state_dict(), "{path.with_suffix(".weights.pt")}")'
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{key}: {path} is truncated or damaged ({str(error).splitlines()[0]})") from error
    content = content if isinstance(content, Mapping) else {}
    content = next((inner for name in CONTAINERS if isinstance(inner := content.get(name), Mapping)), content)
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(
            f"{key}: {path} holds no weights (expected a state dict, alone or under {', '.join(CONTAINERS)})"
        )
    return weights


def _read_safetensors(path: str | Path, where: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{where}{path} is absent, truncated or damaged ({str(error).splitlines()[0]})") from error
    try:
        return weights, json.loads(metadata.get("distillab", "{}"))
    except json.JSONDecodeError:
        return weights, {}


def read_shipped(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of an exported student that ships more than itself, and its `about`; UserError for any other file."""
    weights, about = _read_safetensors(path)
    if "shipped" not in about:
        raise UserError(f"{path} holds a student alone: load it with student.checkpoint={path}")
    return weights, about["shipped"]


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], name: str, source: str, *, key: str) -> None:
    """Put weights into a network: tensors by name, under any common prefix (`module.`, `student.net.`, …).

    Raises UserError, with the architecture's `name`, the file `source` and the config key that named it, where tensors are
    missing, unexpected or of another shape.
    """
    expected = net.state_dict()
    prefix = _prefix(expected, weights)
    found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in expected]
    reshaped = [k for k in expected if k in found and found[k].shape != expected[k].shape]
    if missing or unexpected or reshaped:
        parts = [f"{len(v)} {word} ({_some(v)})" for word, v in (("missing", missing), ("unexpected", unexpected)) if v]
        if reshaped:
            first = reshaped[0]
            shapes = f"{first} is {tuple(found[first].shape)}, expected {tuple(expected[first].shape)}"
            parts.append(f"{len(reshaped)} of another shape ({shapes})")
        role, _, _ = key.partition(".")
        hint = f"{role}=… chooses the architecture"
        if not missing and not unexpected and all(expected[k].shape[1:] == found[k].shape[1:] for k in reshaped):
            hint = f"{role}.classes=[…] names the checkpoint's own classes"
        raise UserError(f"{key}: {source} does not fit {name}: {'; '.join(parts)}; {hint}")
    net.load_state_dict(expected | found)


def _prefix(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """The prefix under which most of the expected names stand in the file (the student's, where two do equally well)."""
    probe = next(iter(expected))
    candidates = {k.removesuffix(probe) for k in weights if k.endswith(probe)} | {""}
    candidates = {c for c in candidates if not c or c.endswith(".")}
    return max(sorted(candidates), key=lambda c: (sum(c + k in weights for k in expected), "student" in c, -len(c)))


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … {len(names) - SHOWN} more" if len(names) > SHOWN else "")
