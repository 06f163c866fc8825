"""A new head for a network whose weights were learned on other classes, or that never had a head."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.pairing import paired

APPENDED = "new_head"  # the module path of a head that a network without one is given


def as_trained(
    net: nn.Module, weights: Mapping[str, Tensor], sized: Sequence[str]
) -> tuple[int | None, Mapping[str, Tensor]]:
    """How many classes the weights of a checkpoint tell apart, and the weights; None where they have no head.

    `sized` are the names of the tensors of `net` that have one row for each class. Where there is no head the fresh one of
    `net` stands for it.
    """
    expected, found, *_ = paired(net, weights)
    heads = {len(found[name]) for name in sized if name in found and found[name].ndim}
    if not heads:
        return None, found | {name: expected[name] for name in sized}
    return heads.pop() if len(heads) == 1 else len(expected[sized[0]]), weights


def take_head(net: nn.Module, fresh: nn.Module, sized: Sequence[str]) -> None:
    """Give a network the modules of a `fresh` one of the same kind that have one row for each class."""
    for path in dict.fromkeys(name.rpartition(".")[0] for name in sized):
        net.set_submodule(path, fresh.get_submodule(path))


def renew_head(net: nn.Module, info: FeatureInfo, classes: int, seed: int) -> None:
    """Replace the head of a network that `info` describes by one of so many classes, or append one where there is none.

    What is appended reads the output (N, d) of the network, whose own modules keep their paths. Raises UserError where
    the head is no linear layer.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if info.head is None:
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
