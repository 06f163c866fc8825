"""Every timm classifier by name (extra `timm`)."""

import inspect
from types import ModuleType
from typing import Any

from torch import nn

from distillab.core.errors import UserError
from distillab.models.builder import arguments_in


def timm_classifier(
    architecture: str,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: int = 224,
    *,
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """A classifier of `timm.create_model`, by its name there, e.g. vit_tiny_patch16_224.

    With `pretrained` it starts from timm's weights: the head is new where they have another number of classes, and timm
    adapts the first layer to the channels. `image_size` is for architectures that must know the images' side; the other
    arguments are passed on, e.g. drop_rate, patch_size. Raises UserError where timm is not installed, for an unknown
    architecture, and for weights that cannot be had.
    """
    timm = _timm(architecture)
    if not pretrained and "img_size" not in arguments and _takes_image_size(timm.model_entrypoint(architecture)):
        arguments["img_size"] = image_size
    try:
        shape = {"num_classes": num_classes, "in_chans": in_channels}
        return timm.create_model(architecture, pretrained=pretrained, **shape, **arguments)
    except (OSError, RuntimeError) as error:
        raise UserError(f"timm cannot make {architecture}: {str(error).splitlines()[0]}") from error


def passed_on(architecture: str) -> list[str]:
    """The names of the arguments that may be passed on to an architecture; UserError for an unknown one."""
    return arguments_in(inspect.getmodule(_timm(architecture).model_entrypoint(architecture)))


timm_classifier.passed_on = passed_on  # for checks before anything is built


def _timm(architecture: str) -> ModuleType:
    """The package, which has the architecture."""
    try:
        import timm
    except ImportError as error:
        raise UserError('timm is not installed; pip install "distillab[timm]"') from error
    if not timm.is_model(architecture):
        close = timm.list_models(f"*{architecture.split('_')[0]}*")[:5]
        some = ", ".join(close) or "see timm.list_models()"
        raise UserError(f'timm has no model "{architecture}" (some it has: {some})')
    return timm


def _takes_image_size(entrypoint: Any) -> bool:
    """Whether the family's class is told the size of its images (transformers with learned positions)."""
    module = inspect.getmodule(entrypoint)
    own = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    classes = {base for c in own for base in c.__mro__ if base.__module__.startswith("timm.")}  # DeiT's passes all on
    return any({"img_size", "num_classes"} <= inspect.signature(c).parameters.keys() for c in classes)
