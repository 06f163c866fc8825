"""Builds the student or the teacher from its config and from what the data says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from distillab.core.configuration import ROLE_KEYS
from distillab.core.errors import UserError
from distillab.core.instantiate import accepted, build, locate
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.image_model import ImageModel

DTYPES = (None, "bfloat16", "float16", "float32")  # in which a frozen teacher can be held
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "input_size": 224}


def build_model(
    config: Mapping[str, Any],
    role: str,
    classes: Sequence[str],
    input_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
) -> ImageModel:
    """A model in its role, with fresh weights, pretrained ones, or those of `config.checkpoint`.

    Args:
        config: `_target_` and its arguments, beside the keys of the role.
        role: `student` or `teacher`, for messages.
        classes: the data's class names.
        input_shape: (C, H, W) of the data's images.
        mean, std: the data's, where config has none.
        seed: of fresh weights; the same seed gives the same student whatever the strategy.

    Raises:
        UserError: the config does not give such a model, or the checkpoint does not fit it.
    """
    if config.get("dtype") not in DTYPES:
        raise UserError(
            f'{role}.dtype must be one of {", ".join(map(str, DTYPES[1:]))} or null, got "{config["dtype"]}"; '
            f"{role}.dtype=bfloat16 halves a teacher's memory"
        )
    weights, known = {}, {}
    if config.get("checkpoint"):
        weights, known = read_weights(config["checkpoint"], f"{role}.checkpoint")
    elif config.get("pretrained"):
        known = {key: IMAGENET[key] for key in ("mean", "std")}
        known["input_size"] = IMAGENET["input_size"] if max(input_shape[1:]) < IMAGENET["input_size"] else None

    def choose(key: str, otherwise: Any = None) -> Any:
        """What the config says, else the file or the pretrained weights, else the data."""
        return next((v for v in (config.get(key), known.get(key)) if v is not None), otherwise)

    own_classes = choose("classes")
    side = choose("input_size", input_shape[1])
    offered = {
        "num_classes": len(own_classes or classes),
        "in_channels": input_shape[0],
        "image_size": side,
        "pretrained": bool(config.get("pretrained")),
    }
    node = {k: v for k, v in config.items() if k not in ROLE_KEYS}
    if node.get("_target_") in (None, "???"):
        raise UserError(f"{role}._target_ is missing: name your class, e.g. {role}._target_=my_package.MyNet")
    given = accepted(locate(node["_target_"], role), offered)
    if offered["pretrained"] and "pretrained" not in given:
        raise UserError(f"{role}.pretrained: {node['_target_']} knows no pretrained weights; use {role}.checkpoint=…")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(node, role, **given)
    if offered["pretrained"] and (own := getattr(net, "pretrained_cfg", None)):  # timm's weights say what they saw
        known |= {"mean": own["mean"], "std": own["std"]}
        known["input_size"] = own["input_size"][-1] if max(input_shape[1:]) < own["input_size"][-1] else None
    name = config.get("name") or config.get("architecture") or node["_target_"].rpartition(".")[2]
    if weights:
        load_weights(net, weights, name, config["checkpoint"], f"{role}.checkpoint")
    channels = 3 if config.get("pretrained") else input_shape[0]
    try:
        model = ImageModel(
            net,
            input_shape,
            name=name,
            mean=_per_channel(choose("mean", mean), channels),
            std=_per_channel(choose("std", std), channels),
            input_size=choose("input_size"),
            stages=config.get("stages"),
            head=config.get("head"),
            class_order=_class_order(own_classes, classes, role),
        )
    except UserError as error:
        raise UserError(f"{role}: {error}") from error
    outputs = model.info.classes
    if outputs != len(classes):
        raise UserError(
            f"{role}: {name} has {outputs} outputs and the data {len(classes)} classes; "
            f"let its signature take num_classes, or name the outputs with {role}.classes=[…]"
        )
    return model


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * (channels if len(values) == 1 else 1)


def _class_order(own: Sequence[str] | None, classes: Sequence[str], role: str) -> list[int] | None:
    """For each class of the data the output that means it; None where they agree already."""
    if own is None or list(own) == list(classes):
        return None
    own = [str(name) for name in own]
    missing = [name for name in classes if name not in own]
    if missing:
        raise UserError(
            f"{role}.classes lacks {', '.join(missing[:5])}; it must name every output, the data's classes among them"
        )
    return [own.index(name) for name in classes]
