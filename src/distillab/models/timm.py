"""Every timm classifier by name (extra `timm`)."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from distillab.core.errors import UserError


def timm_classifier(
    architecture: str,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: int = 224,
    *,
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """A classifier of `timm.create_model`.

    Args:
        architecture: its name there, e.g. vit_tiny_patch16_224.
        num_classes: outputs; with `pretrained` the head is new where the weights have another number.
        in_channels: channels of the images; pretrained weights of the first layer are adapted by timm.
        image_size: side of the images, for architectures that must know it.
        pretrained: start from timm's weights.
        arguments: passed on, e.g. drop_rate, patch_size.

    Raises:
        UserError: timm is not installed, an unknown architecture, or weights that cannot be had.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError('timm is not installed; pip install "distillab[timm]"') from error
    if not timm.is_model(architecture):
        close = timm.list_models(f"*{architecture.split('_')[0]}*")[:5]
        raise UserError(
            f'timm has no model "{architecture}" (some it has: {", ".join(close) or "see timm.list_models()"})'
        )
    if not pretrained and "img_size" not in arguments and _takes_image_size(timm.model_entrypoint(architecture)):
        arguments["img_size"] = image_size
    try:
        return timm.create_model(
            architecture, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels, **arguments
        )
    except (OSError, RuntimeError) as error:
        raise UserError(f"timm cannot make {architecture}: {str(error).splitlines()[0]}") from error


def _takes_image_size(entrypoint: Any) -> bool:
    """Whether the family's class is told the size of its images (transformers with learned positions)."""
    module = inspect.getmodule(entrypoint)
    classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    return any(
        "img_size" in inspect.signature(c).parameters and "num_classes" in inspect.signature(c).parameters
        for c in classes
    )
