"""Builds the student or the teacher from its config and the data's shape, classes and normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import accepted, build, locate
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.image_model import ImageModel

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224  # mean, standard deviation, input size


def build_model(
    config: ModelConfig,
    role: str,
    classes: Sequence[str],
    input_shape: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
) -> ImageModel:
    """A model in its role, with fresh weights, pretrained ones, or those of `config.checkpoint`.

    Args:
        config: the network's builder, beside the keys of its role.
        role: `student` or `teacher`, for messages.
        classes: the data's class names.
        input_shape: (C, H, W) of the data's images.
        mean, std: the data's, used where neither the config nor the weights bring their own.
        seed: of fresh weights; the same seed gives the same student whatever the strategy.

    Raises:
        UserError: the config does not give such a model, or the checkpoint does not fit it.
    """
    of_data = {"mean": mean, "std": std}
    weights, of_weights = _read_weights(config, role, input_shape)
    settings = _settings(asdict(config), of_weights, of_data)
    net = _network(config, role, _offered(config, settings, classes, input_shape), seed)
    if config.pretrained and (own := getattr(net, "pretrained_cfg", None)):  # timm's weights bring their own
        of_timm = _pretrained_settings(own["mean"], own["std"], own["input_size"][-1], input_shape)
        settings = _settings(asdict(config), {**of_weights, **of_timm}, of_data)
    name = config.name or config.builder.get("architecture") or config.builder.target.rpartition(".")[2]
    if weights:
        load_weights(net, weights, name, config.checkpoint, key=f"{role}.checkpoint")
    model = _image_model(net, name, config, settings, role=role, classes=classes, input_shape=input_shape)
    if model.info.outputs != len(classes):
        raise UserError(
            f"{role}: {name} has {model.info.outputs} outputs and the data {len(classes)} classes; "
            f"let its signature take num_classes, or name the outputs with {role}.classes=[…]"
        )
    return model


def _read_weights(
    config: ModelConfig, role: str, input_shape: tuple[int, int, int]
) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
    """The checkpoint's weights (none without one), and the settings that go with a checkpoint or pretrained weights."""
    if config.checkpoint:
        return read_weights(config.checkpoint, f"{role}.checkpoint")
    if config.pretrained:
        return {}, _pretrained_settings(*IMAGENET, input_shape)
    return {}, {}


def _pretrained_settings(
    mean: Sequence[float], std: Sequence[float], side: int, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Normalisation of pretrained weights, and their input size where the data's images are smaller."""
    return {"mean": mean, "std": std, "input_size": side if max(input_shape[1:]) < side else None}


def _settings(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting of a model from the first source that has it; None where none has."""
    keys = ("classes", "mean", "std", "input_size")
    return {key: next((s[key] for s in sources if s.get(key) is not None), None) for key in keys}


def _offered(
    config: ModelConfig, settings: Mapping[str, Any], classes: Sequence[str], input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The arguments that the program has for a network, which takes those that its signature names."""
    return {
        "num_classes": len(settings["classes"] or classes),
        "in_channels": input_shape[0],
        "image_size": input_shape[1] if settings["input_size"] is None else settings["input_size"],
        "pretrained": bool(config.pretrained),
    }


def _network(config: ModelConfig, role: str, offered: Mapping[str, Any], seed: int) -> nn.Module:
    """The network of `config._target_`; fresh weights follow from the seed alone."""
    node = config.builder
    if node.target is None:
        raise UserError(f"{role}._target_ is missing: name your class, e.g. {role}._target_=my_package.MyNet")
    given = accepted(locate(node.target, role), offered)
    if offered["pretrained"] and "pretrained" not in given:
        raise UserError(f"{role}.pretrained: {node.target} knows no pretrained weights; use {role}.checkpoint=…")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(node, role, **given)


def _image_model(
    net: nn.Module,
    name: str,
    config: ModelConfig,
    settings: Mapping[str, Any],
    *,
    role: str,
    classes: Sequence[str],
    input_shape: tuple[int, int, int],
) -> ImageModel:
    channels = 3 if config.pretrained else input_shape[0]
    try:
        return ImageModel(
            net,
            input_shape,
            name=name,
            mean=_per_channel(settings["mean"], channels),
            std=_per_channel(settings["std"], channels),
            input_size=settings["input_size"],
            stages=config.stages,
            head=config.head,
            class_order=_class_order(settings["classes"], classes, role),
        )
    except UserError as error:
        raise UserError(f"{role}: {error}") from error


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * (channels if len(values) == 1 else 1)


def _class_order(own: Sequence[str] | None, classes: Sequence[str], role: str) -> list[int] | None:
    """For each class of the data the number of the output that stands for it; None where the orders agree."""
    if own is None or list(own) == list(classes):
        return None
    own = [str(name) for name in own]
    missing = [name for name in classes if name not in own]
    if missing:
        raise UserError(
            f"{role}.classes lacks {', '.join(missing[:5])}; it must name every output, the data's classes among them"
        )
    return [own.index(name) for name in classes]
