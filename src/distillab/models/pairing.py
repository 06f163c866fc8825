"""Which tensor of a file belongs to which of a network's: by their names, or by their order where the names are others."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from distillab.models.by_order import are_disordered, names_by_order

PROFILED = ("total_ops", "total_params")  # what a profiler leaves in the modules that it has counted


class Pairing(NamedTuple):
    """A network's tensors by name, and those of a file by the network's names.

    `names` are the file's where it has others; `disordered` says that these fail by their order alone.
    """

    expected: dict[str, Tensor]
    found: dict[str, Tensor]
    names: dict[str, str]
    disordered: bool = False

    @property
    def missing(self) -> list[str]:
        """The network's that the file does not have."""
        return [k for k in self.expected if k not in self.found and not k.endswith("num_batches_tracked")]

    @property
    def unexpected(self) -> list[str]:
        """The file's that the network does not have."""
        return [k for k in self.found if k not in self.expected]

    @property
    def first_renamed(self) -> str | None:
        """The first of the network's that has another name in the file, whatever its prefix; None where none has."""
        return next((own for own, name in self.names.items() if not f".{name}".endswith(f".{own}")), None)


def paired(net: nn.Module, weights: Mapping[str, Tensor]) -> Pairing:
    """A network's tensors, and those of a file without their common prefix and what a profiler left; by name, else by order."""
    expected = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    weights = {k.replace("_orig_mod.", ""): v for k, v in weights.items()}  # of a compiled module, anywhere in it
    prefix = _prefix(expected, weights)
    found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    # A file of transformers has shared weights, as of a tied head, under one of their names.
    kept = {name: value for name, value in expected.items() if value.numel() and not value.is_meta}
    shared = {(value.data_ptr(), value.shape): found[name] for name, value in kept.items() if name in found}
    found |= {
        name: shared[place]
        for name, value in kept.items()
        if name not in found and (place := (value.data_ptr(), value.shape)) in shared
    }
    by_name = Pairing(expected, {k: v for k, v in found.items() if k in expected or not _is_profiled(k)}, {})
    if not (by_name.missing or by_name.unexpected):
        return by_name
    weights = {k: v for k, v in weights.items() if not _is_profiled(k)}
    if names := names_by_order(net, weights):
        return Pairing(expected, {own: weights[name] for own, name in names.items()}, names)
    return by_name._replace(disordered=are_disordered(net, weights))


def _is_profiled(name: str) -> bool:
    return name.rpartition(".")[2] in PROFILED


def _prefix(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """The prefix under which most of the expected names stand in the file (the student's, where two do equally well)."""
    probe = next(iter(expected))
    candidates = {k.removesuffix(probe) for k in weights if k.endswith(probe)} | {""}
    candidates = {c for c in candidates if not c or c.endswith(".")}
    return max(sorted(candidates), key=lambda c: (sum(c + k in weights for k in expected), "student" in c, -len(c)))
