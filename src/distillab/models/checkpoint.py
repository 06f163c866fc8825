"""Reads weights from files without running code in them, and puts them into a network."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.about import About
from distillab.models.inert import Inert, read_older, read_zip

CONTAINERS = ("state_dict", "model", "model_state_dict", "net", "network", "params", "weights", "ema")
PROFILED = ("total_ops", "total_params")  # what a profiler leaves in the modules that it has counted
SHOWN = 3  # tensors that a message names
EXPECTED = "expected safetensors, or a state dict written by torch.save"


def read_weights(path: str | Path, key: str = "teacher.checkpoint") -> tuple[dict[str, Tensor], About]:
    """The tensors of a checkpoint by name, and the metadata of a file that distillab exported (else empty).

    Takes safetensors, arrays of numpy by name, and what torch.save wrote: a state dict, alone or within other things, such
    as a Lightning checkpoint. Code in a file is never run. Raises UserError, which names the config's `key` for it, for a
    file that is absent, damaged, no checkpoint, or a pickled model.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{key}: there is no file {path}")
    try:
        with path.open("rb") as file:
            start = file.read(9)
            if start[8:] == b"{" or path.suffix == ".safetensors":
                return _read_safetensors(path)
            if start[:2] == b"PK":
                content = _read_zip(path)
            elif start[:1] == b"\x80":
                file.seek(0)
                content = read_older(file)
            else:
                raise UserError(f"{path} is no checkpoint ({EXPECTED})")
        return _state(content, path), About()
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    except Exception as error:  # a damaged file can end in any
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{key}: {path} is truncated or damaged ({reason})") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], About]:
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = file.metadata() or {}
    try:
        return weights, About.read(metadata)
    except (UserError, ValueError, RecursionError) as error:
        reason = str(error).partition(";")[0]
        raise UserError(f"{path} has metadata that distillab did not write ({reason}); export it again") from error


def _read_zip(path: Path) -> Any:
    with ZipFile(path) as archive:
        names = archive.namelist()
    own = str(path.with_suffix(".weights.pt"))
    if any(name.endswith("constants.pkl") for name in names):
        mend = f'torch.save(torch.jit.load("{path}").state_dict(), "{own}")'
        raise UserError(f"{path} is a TorchScript program, which is not run here; if you trust it, convert it: {mend}")
    if names and all(name.endswith(".npy") for name in names):
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        raise UserError(f"{path} is a zip file and no checkpoint ({EXPECTED})")
    return read_zip(path)


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    """The one state dict in what a file holds; raises UserError where there is none, or a choice."""
    if isinstance(content, Tensor):
        raise UserError(f"{path} holds one tensor without a name ({EXPECTED})")
    found = dict(_states(content, "", set()))
    known = [place for place in found if place.rpartition(".")[2] in CONTAINERS]
    chosen = next(iter([*known, *([""] if "" in found else []), *found]), None)
    if chosen is None:
        raise UserError(_without_weights(content, path))
    shapes = {place: sorted(tuple(value.shape) for value in state.values()) for place, state in found.items()}
    same = [place for place in found if shapes[place] == shapes[chosen]]
    if len(same) > 1 or (not known and chosen and len(found) > 1):
        own, places = path.with_suffix(".weights.pt"), same if len(same) > 1 else list(found)
        keys = "".join(f'["{part}"]' for part in places[0].split("."))
        mend = f'torch.save(torch.load("{path}", weights_only=False){keys}, "{own}")'
        raise UserError(f"{path} holds several sets of weights ({_some(places)}); keep one, if you trust it: {mend}")
    return found[chosen]


def _states(content: Any, place: str, seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping that holds tensors by name, and where it stands first; `seen` are the mappings before it."""
    if not isinstance(content, Mapping) or id(content) in seen:
        return
    seen.add(id(content))
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    if own := {name: value.detach() for name, value in named.items() if isinstance(value, Tensor)}:
        yield place, own
    for name, value in named.items():
        yield from _states(value, f"{place}.{name}" if place else name, seen)


def _without_weights(content: Any, path: Path) -> str:
    """What a file holds that has no tensor by name."""
    parts = content if isinstance(content, Mapping) and not isinstance(content, Inert) else {"": content}
    models = [name for name, value in parts.items() if isinstance(value, Inert) and name in ("", *CONTAINERS)]
    if models:
        keys, kind = f'["{models[0]}"]' if models[0] else "", type(parts[models[0]]).path
        return (
            f"{path} holds a pickled model or other code ({kind}), which is not run here; if you trust it, convert it: "
            f'model = torch.load("{path}", weights_only=False){keys}; '
            f'torch.save(model.state_dict(), "{path.with_suffix(".weights.pt")}")'
        )
    kinds = [
        f"{name}: {getattr(value, 'path', '') or type(value).__name__}".lstrip(": ") for name, value in parts.items()
    ]
    return f"{path} holds no weights but {_some(kinds) or 'nothing'} ({EXPECTED})"


def read_shipped(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of an exported student that ships more than itself, and its `about`; UserError for any other file."""
    weights, about = read_weights(path, "student")
    if about.shipped is None:
        raise UserError(f"{path} holds a student alone: load it with student.checkpoint={path}")
    return weights, about.shipped


def load_weights(
    net: nn.Module, weights: Mapping[str, Tensor], name: str, source: str, *, key: str, first: str = ""
) -> None:
    """Put weights into a network: tensors by name, under any common prefix (`module.`, `student.net.`, …).

    Raises UserError, with the architecture's `name`, the file `source` and the config key that named it, where tensors are
    missing, unexpected, of another shape or kind of number, or not finite. `first` says what chooses the first layer.
    """
    where = f"{key}: {source}"
    expected, found = paired(net, weights)
    _compare(expected, found, f"{where} does not fit {name}", key.partition(".")[0], first)
    mend = f"choose another file with {key}=…"
    if other := [k for k, value in found.items() if _other_kind(value, expected[k])]:
        kind = str(found[other[0]].dtype).removeprefix("torch.")
        raise UserError(
            f"{where} holds {len(other)} tensors of {kind}, which {name} cannot take ({_some(other)}); {mend}"
        )
    if broken := [k for k, value in found.items() if _broken(value, expected[k])]:
        raise UserError(f"{where} holds {len(broken)} tensors with NaN or infinite numbers ({_some(broken)}); {mend}")
    net.load_state_dict(net.state_dict() | found)


def check_names(
    net: nn.Module, weights: Mapping[str, Tensor], name: str, source: str, *, key: str, sized: Iterable[str] = ()
) -> None:
    """Raise UserError as `load_weights` where tensors are missing or unexpected, whatever their shape.

    The shape counts of those that are `sized` already.
    """
    expected, found = paired(net, weights)
    expected = {k: value if k in sized else found.get(k, value) for k, value in expected.items()}
    _compare(expected, found, f"{key}: {source} does not fit {name}", key.partition(".")[0])


def paired(net: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A network's tensors, and those of a file without their common prefix and what a profiler left."""
    expected = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    weights = {k.replace("_orig_mod.", ""): v for k, v in weights.items()}  # of a compiled module, anywhere in it
    prefix = _prefix(expected, weights)
    found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    # A file of transformers has shared weights, as of a tied head, under one of their names.
    shared = {(value.data_ptr(), value.shape): found[name] for name, value in expected.items() if name in found}
    found |= {
        name: shared[place]
        for name, value in expected.items()
        if name not in found and value.numel() and (place := (value.data_ptr(), value.shape)) in shared
    }
    return expected, {k: v for k, v in found.items() if k in expected or k.rpartition(".")[2] not in PROFILED}


def _compare(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str, role: str, first: str = ""
) -> None:
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in expected]
    reshaped = [k for k in expected if k in found and found[k].shape != expected[k].shape]
    if not (missing or unexpected or reshaped):
        return
    parts = [f"{len(v)} {word} ({_some(v)})" for word, v in (("missing", missing), ("unexpected", unexpected)) if v]
    if reshaped:
        one = reshaped[0]
        shapes = f"{one} is {tuple(found[one].shape)}, expected {tuple(expected[one].shape)}"
        parts.append(f"{len(reshaped)} of another shape ({shapes})")
    hint = f"{role}=… chooses the architecture"
    if not missing and not unexpected and all(expected[k].shape[1:] == found[k].shape[1:] for k in reshaped):
        hint = f"{role}.classes=[…] names the checkpoint's own classes"
    elif first and not missing and not unexpected and all(expected[k].ndim == 4 for k in reshaped):
        hint = first
    raise UserError(f"{where}: {'; '.join(parts)}; {hint}")


def _other_kind(value: Tensor, expected: Tensor) -> bool:
    """Whether only one of two is floating-point or complex; whole numbers and truth values go for each other."""
    kinds = [(one.is_floating_point(), one.is_complex()) for one in (value, expected)]
    return kinds[0] != kinds[1]


def _broken(value: Tensor, expected: Tensor) -> bool:
    """Whether a tensor holds what is not finite in the network's type; a fresh network's own (a mask) may do so."""
    return bool(expected.isfinite().all()) and not value.to(expected.dtype).isfinite().all()


def _prefix(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """The prefix under which most of the expected names stand in the file (the student's, where two do equally well)."""
    probe = next(iter(expected))
    candidates = {k.removesuffix(probe) for k in weights if k.endswith(probe)} | {""}
    candidates = {c for c in candidates if not c or c.endswith(".")}
    return max(sorted(candidates), key=lambda c: (sum(c + k in weights for k in expected), "student" in c, -len(c)))


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … {len(names) - SHOWN} more" if len(names) > SHOWN else "")
