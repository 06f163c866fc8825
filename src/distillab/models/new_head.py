"""A new head for a network whose weights were learned on other classes, or that never had a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.pairing import paired
from distillab.models.trace import is_output

APPENDED = "new_head"  # the module path of a head that a network without one is given


@dataclass(frozen=True)
class Probe:
    """A linear head (C, d + 1), the last column its biases; on how many samples it was fitted, and with which decay."""

    weights: Tensor
    samples: int
    decay: float
    seconds: float

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (R, C) of features (R, d)."""
        return F.linear(features, self.weights[:, :-1], self.weights[:, -1])

    @torch.no_grad()
    def put(self, head: nn.Linear) -> None:
        """Give a head (C, d) with biases these weights."""
        head.weight.copy_(self.weights[:, :-1])
        head.bias.copy_(self.weights[:, -1])


def as_bytes(head: Probe) -> bytes:
    """A head as the content of a file of safetensors."""
    facts = torch.tensor([head.samples, head.decay, head.seconds], dtype=torch.float64)
    return save({"weights": head.weights.cpu().contiguous(), "facts": facts})


def from_bytes(content: bytes) -> Probe | None:
    """The head that `as_bytes` wrote; None where it is none."""
    try:
        found = load(content)
        weights, (samples, decay, seconds) = found["weights"], found["facts"].double().tolist()
        known = weights.ndim == 2 and weights.is_floating_point() and bool(weights.isfinite().all())
        return Probe(weights, int(samples), decay, seconds) if known and decay >= 0 and seconds >= 0 else None
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError):
        return None


def as_trained(
    net: nn.Module, weights: Mapping[str, Tensor], sized: Sequence[str], source: str
) -> tuple[int | None, Mapping[str, Tensor]]:
    """How many classes the weights of a checkpoint tell apart, and the weights; None where they have no head.

    `sized` are the names of the tensors of `net` that have one row for each class. Where there is no head the fresh one of
    `net` stands for it. Raises UserError, with the `source` of the weights, where these tensors disagree.
    """
    expected, found, *_ = paired(net, weights)
    heads = {name: len(found[name]) for name in sized if name in found and found[name].ndim}
    if not heads:
        return None, found | {name: expected[name] for name in sized}
    (first, classes), *others = heads.items()
    for name, rows in others:
        if rows != classes:
            what = f"{first} is for {classes:,} classes, {name} for {rows:,}"
            raise UserError(f"{source} has a head of two sizes: {what}; choose another file")
    return classes, weights


def take_head(net: nn.Module, fresh: nn.Module, sized: Sequence[str]) -> None:
    """Give a network the modules of a `fresh` one of the same kind that have one row for each class."""
    for path in dict.fromkeys(name.rpartition(".")[0] for name in sized):
        net.set_submodule(path, fresh.get_submodule(path))


def renew_head(net: nn.Module, shape: tuple[int, ...], info: FeatureInfo, classes: int, seed: int) -> None:
    """Replace the head of a network for images of `shape` by one of so many classes, or append one.

    One is appended where there is none, and where the network computes its output from that of the head, such as a
    normalised embedding: it reads the output (N, d) of the network, whose own modules keep their paths. Raises UserError
    where the head is no linear layer.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if info.head is None or not is_output(net, shape, info.head):
            net.add_module(APPENDED, nn.Linear(info.outputs, classes))
            net.register_forward_hook(_append)
            return
        old = net.get_submodule(info.head)
        if not isinstance(old, nn.Linear):
            raise UserError(f"{info.head} is a {type(old).__name__}, and a new head can only stand for a linear layer")
        net.set_submodule(info.head, nn.Linear(old.in_features, classes).to(old.weight))


def _append(net: nn.Module, _: tuple, features: Tensor) -> Tensor:
    """The logits of the appended head; a hook, so that the paths of the network's own modules stay as they are."""
    return net.get_submodule(APPENDED)(features)
