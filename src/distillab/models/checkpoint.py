"""Reads weights from files without running code in them, and puts them into a network."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print_once
from distillab.core.places import weights_file
from distillab.models.about import About
from distillab.models.inert import Inert, read_older, read_zip
from distillab.models.pairing import Pairing, paired

CONTAINERS = ("state_dict", "model", "model_state_dict", "net", "network", "module", "params", "weights", "ema")
UNPACKED, SMALL = 20, 64 * 10**6  # a zip file may unpack to so many times its bytes, or to so many bytes
POINTER = b"version h"  # how the file begins that git-LFS puts in another one's place
SHOWN = 3  # tensors that a message names
EXPECTED = "expected safetensors, or a state dict written by torch.save"


def read_weights(path: str | Path, key: str = "teacher.checkpoint") -> tuple[dict[str, Tensor], About]:
    """The tensors of a checkpoint by name, and the metadata of a file that distillab exported (else empty).

    Takes safetensors, arrays of numpy by name, and what torch.save wrote: a state dict, alone or within other things, such
    as a Lightning checkpoint. Code in a file is never run. Raises UserError, which names the config's `key` for it, for a
    file that is absent, damaged, no checkpoint, or a pickled model.
    """
    path = weights_file(path, key)
    if not path.stat().st_size:
        raise UserError(f"{key}: {path} is empty; {key}=… names another file")
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
            elif start == POINTER:
                raise UserError(f"{path} only points to a file of git-LFS: fetch it with git lfs pull")
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
        names, unpacked = archive.namelist(), sum(part.file_size for part in archive.infolist())
    if unpacked > max(UNPACKED * path.stat().st_size, SMALL):
        raise UserError(f"{path} would fill {unpacked / 1e9:.1f} GB of memory, more than {UNPACKED} times its size")
    if any(name.endswith("constants.pkl") for name in names):
        mend = _mend(path, "torch.jit.load({}, map_location='cpu').state_dict()")
        raise UserError(f"{path} is a TorchScript program, which is not run here; if you trust it, {mend}")
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
    if _pickled(content) is not None:  # beside it stand figures, such as the best accuracy
        found = {place: state for place, state in found.items() if any(value.numel() > 1 for value in state.values())}
    known = [place for place in found if place.rpartition(".")[2] in CONTAINERS]
    chosen = next(iter([*known, *([""] if "" in found else []), *found]), None)
    if chosen is None:
        raise UserError(_without_weights(content, path))
    shapes = {place: sorted(tuple(value.shape) for value in state.values()) for place, state in found.items()}
    same = [place for place in found if shapes[place] == shapes[chosen]]
    if len(same) > 1 or (not known and chosen and len(found) > 1):
        places = same if len(same) > 1 else list(found)
        keys = "".join(f'["{part}"]' for part in places[0].split("."))
        mend = _mend(path, f"torch.load({{}}, map_location='cpu', weights_only=False){keys}")
        raise UserError(f"{path} holds several sets of weights ({_some(places)}); to keep one, if you trust it, {mend}")
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


def _pickled(content: Any) -> str | None:
    """Where a file has an object that cannot be read without its code, and whose name says that it is a network."""
    parts = content if isinstance(content, Mapping) and not isinstance(content, Inert) else {"": content}
    return next((k for k, v in parts.items() if isinstance(v, Inert) and not v and k in ("", *CONTAINERS)), None)


def _without_weights(content: Any, path: Path) -> str:
    """What a file holds that has no tensor by name."""
    name = _pickled(content)
    if name is not None:
        keys, kind = f'["{name}"]' if name else "", type(content[name] if name else content).path
        mend = _mend(path, f"torch.load({{}}, map_location='cpu', weights_only=False){keys}.state_dict()")
        what = f"{path} holds a pickled model or other code ({kind}), which is not run here"
        module = kind.partition(".")[0]
        where = "in the script that wrote it" if module == "__main__" else f"where Python finds {module}"
        return f"{what}; if you trust it, {where}, {mend}"
    parts = content if isinstance(content, Mapping) and not isinstance(content, Inert) else {"": content}
    kinds = [
        f"{name}: {getattr(value, 'path', '') or type(value).__name__}".lstrip(": ") for name, value in parts.items()
    ]
    return f"{path} holds {f'no weights but {_some(kinds)}' if kinds else 'nothing'} ({EXPECTED})"


def _mend(path: Path, weights: str) -> str:
    """Two lines of Python that write a file which can be read; `weights` is what they save of the file, `{}` its path."""
    file, own = (json.dumps(str(one), ensure_ascii=False) for one in (path, path.with_suffix(".weights.pt")))
    return f"convert it in Python: import torch; torch.save({weights.replace('{}', file, 1)}, {own})"


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

    Where the names are others, networks of a known order take the tensors in it (`models.by_order`); a line says so.

    Raises UserError, with the architecture's `name`, the file `source` and the config key that named it, where tensors are
    missing, unexpected, of another shape or kind of number, or not finite. `first` says what chooses the first layer.
    """
    where = f"{key}: {source}"
    pairing = paired(net, weights)
    expected, found = pairing.expected, pairing.found
    _compare(pairing, f"{where} does not fit {name}", key.partition(".")[0], first)
    mend = f"choose another file with {key}=…"
    if other := [k for k, value in found.items() if _other_kind(value, expected[k])]:
        kind = str(found[other[0]].dtype).removeprefix("torch.")
        raise UserError(f"{where} holds {_tensors(other)} of {kind}, which {name} cannot take ({_some(other)}); {mend}")
    if broken := [k for k, value in found.items() if _broken(value, expected[k])]:
        raise UserError(f"{where} holds {_tensors(broken)} with NaN or infinite numbers ({_some(broken)}); {mend}")
    net.load_state_dict(net.state_dict() | found)
    if own := pairing.first_renamed:
        what = f"{where} has other names than {name} ({pairing.names[own]} for {own})"
        rank_zero_print_once(f"{what}: its {len(found)} tensors, of equal shapes, are taken in their order")


def check_names(
    net: nn.Module, weights: Mapping[str, Tensor], name: str, source: str, *, key: str, sized: Iterable[str] = ()
) -> None:
    """Raise UserError as `load_weights` where tensors are missing or unexpected, whatever their shape.

    The shape counts of those that are `sized` already.
    """
    pairing = paired(net, weights)
    known = {k: value if k in sized else pairing.found.get(k, value) for k, value in pairing.expected.items()}
    _compare(pairing._replace(expected=known), f"{key}: {source} does not fit {name}", key.partition(".")[0])


def _compare(pairing: Pairing, where: str, role: str, first: str = "") -> None:
    expected, found, names, disordered = pairing
    missing, unexpected = pairing.missing, pairing.unexpected
    reshaped = [k for k in expected if k in found and found[k].shape != expected[k].shape]
    if not (missing or unexpected or reshaped):
        return
    parts = [f"{len(v)} {word} ({_some(v)})" for word, v in (("missing", missing), ("unexpected", unexpected)) if v]
    if reshaped:
        one = reshaped[0]
        own = f" for {one}" if names.get(one, one) != one else ""
        shapes = f"{names.get(one, one)} is {tuple(found[one].shape)}, expected {tuple(expected[one].shape)}{own}"
        parts.append(f"{len(reshaped)} of another shape ({shapes})")
    hint = f"{role}=… (or {role}.architecture=…) chooses the architecture"
    head = not names or [*expected][-1] in reshaped  # the networks of a known order end in it
    shapes_alone = not missing and not unexpected
    if shapes_alone and head and _is_of_classes({k: (expected[k], found[k]) for k in reshaped}, expected):
        hint = f"{role}.classes=[…] names the checkpoint's own classes"
    elif disordered:
        hint = (
            "its shapes fit in another order: take a file of torch.save, with the tensors as their network wrote them"
        )
    elif shapes_alone and (channels := _channels(expected, found, reshaped)):
        hint = f"channels of images: {channels[1]} in the file, {channels[0]} in the data"
    elif shapes_alone and all("pos_embed" in k or "position" in k for k in reshaped):
        hint = f"{role}.input_size=… is the side of the images that it was trained on"
    elif first and shapes_alone and all(expected[k].ndim == 4 for k in reshaped):
        hint = first
    raise UserError(f"{where}: {'; '.join(parts)}; {hint}")


def _is_of_classes(reshaped: Mapping[str, tuple[Tensor, Tensor]], expected: Iterable[str]) -> bool:
    """Whether the number of classes alone can be what makes tensors differ: whole layers, in their first size."""
    sizes = {(one.shape[:1], other.shape[:1]) for one, other in reshaped.values()}
    layers = {name.rpartition(".")[0] for name in reshaped}
    whole = {name for name in expected if name.rpartition(".")[0] in layers} == set(reshaped)
    matrix = len(reshaped) > 1 or any(one.ndim == 2 for one, _ in reshaped.values())
    return len(sizes) == 1 and whole and matrix and all(a.shape[1:] == b.shape[1:] for a, b in reshaped.values())


def _channels(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], reshaped: list[str]
) -> tuple[int, int] | None:
    """The channels that a network reads and those of a file, where nothing else makes the first convolution differ."""
    first = next((name for name, value in expected.items() if value.ndim == 4), None)
    if reshaped != [first] or found[first].ndim != 4:
        return None
    own, other = expected[first].shape, found[first].shape
    return (own[1], other[1]) if own[0] == other[0] and own[2:] == other[2:] else None


def _other_kind(value: Tensor, expected: Tensor) -> bool:
    """Whether only one of two is floating-point or complex; whole numbers and truth values go for each other."""
    kinds = [(one.is_floating_point(), one.is_complex()) for one in (value, expected)]
    return kinds[0] != kinds[1]


def _broken(value: Tensor, expected: Tensor) -> bool:
    """Whether a tensor holds what is not finite in the network's type; a fresh network's own (a mask) may do so."""
    return bool(expected.isfinite().all()) and not value.to(expected.dtype).isfinite().all()


def _tensors(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) > 1)}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … {len(names) - SHOWN} more" if len(names) > SHOWN else "")
