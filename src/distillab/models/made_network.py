"""Calls the builder that a network's config names."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import Target, accepted, build, did_you_mean
from distillab.models.builder import builder, is_teacher


def name_of(config: ModelConfig) -> str:
    """What tables and messages call a network."""
    node = config.builder
    place = str(node.get("path") or "").rstrip("/").rpartition("/")[2]
    return config.name or node.get("architecture") or place or str(node.target).rpartition(".")[2]


@dataclass(frozen=True)
class Plan:
    """A network in its role for data: `shape` is what its signature may name of them, fresh weights follow from the seed."""

    config: ModelConfig
    role: str
    shape: Mapping[str, int]  # num_classes, in_channels, image_size
    seed: int

    @property
    def classes(self) -> int:
        """How many its head is to tell apart."""
        return self.shape["num_classes"]

    def network(self, classes: int | None = None) -> nn.Module:
        """The network of `config._target_`, for another number of `classes` where it is given; UserError where it is none."""
        config, role, node = self.config, self.role, self.config.builder
        shape = {**self.shape, "num_classes": self.classes if classes is None else classes}
        weights = {"pretrained": config.pretrained, "as_it_is": is_teacher(role)}
        given = accepted(builder_of(node, role), {**shape, **weights})
        if config.pretrained and "pretrained" not in given:
            raise UserError(f"{role}.pretrained: {node.target} knows no pretrained weights; use {role}.checkpoint=…")
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            net = build(node, role, **given)
        if not isinstance(net, nn.Module):
            raise UserError(f"{role}._target_: {node.target} made a {type(net).__name__}, not a torch.nn.Module")
        return net

    def sized_by_classes(self, net: nn.Module) -> list[str]:
        """The names of the tensors of its `net` whose shape follows from the number of classes."""
        made = builder_of(self.config.builder, self.role)
        arguments = accepted(made, self.shape) | dict(self.config.builder.arguments)
        return sized_by(net, made, arguments, num_classes=self.classes + 1) or []


def builder_of(node: Target, role: str) -> Callable[..., nn.Module]:
    """The class or function that a node of a network names."""
    if node.target is None:
        raise UserError(f"{role}._target_ is missing: name your class, e.g. {role}._target_=my_package.MyNet")
    return builder(node.target, role)


def bare_network(made: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What a builder makes of its arguments, without memory where that can be; None where it fails."""
    # A class of the user's may keep what it has made for its next network.
    place = "meta" if is_ours(made, "distillab.", "torchvision.") else "cpu"
    with torch.random.fork_rng(), suppress(Exception), torch.device(place):
        return made(**arguments)


def sized_by(net: nn.Module, made: Callable[..., Any], arguments: Mapping[str, Any], **others: int) -> list[str] | None:
    """The names of the tensors of a network whose shape changes with `others` of its builder's arguments.

    None where the builder makes none of these.
    """
    other = bare_network(made, {**arguments, **others})
    if not isinstance(other, nn.Module):
        return None
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    return [name for name, value in net.state_dict().items() if shapes.get(name) != value.shape]


def is_ours(made: Callable[..., Any], *modules: str) -> bool:
    """Whether a builder is of one of these modules, whose names end with a dot."""
    return f"{getattr(made, '__module__', '')}.".startswith(modules)


def check_passed_on(node: Target, made: Callable[..., Any], role: str) -> None:
    """Refuse an unknown architecture, and an argument that it does not take, where a builder passes the rest on to it."""
    if not hasattr(made, "passed_on"):
        return
    try:
        rest = made.passed_on(node.get("architecture"))
    except UserError as error:
        raise UserError(f"{role}: {error}") from error
    own = list(inspect.signature(made).parameters)
    for key in node.arguments:
        if key not in rest and key not in own:
            what = f'{node.get("architecture")} has no argument "{key}"{did_you_mean(key, [*own, *rest, *node.beside])}'
            raise UserError(f"{role}.{key}: {what}; remove it with ~{role}.{key}")
