"""Every torchvision classifier by name, with a small stem for small images."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from distillab.core.allowed import Choice
from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean
from distillab.models.builder import arguments_in

SMALL = 64  # images with a shorter side lose too much in a stem that divides them by four


def torchvision_classifier(
    architecture: str,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: int = 224,
    *,
    pretrained: bool = False,
    stem: str = "auto",
    **arguments: Any,
) -> nn.Module:
    """A classifier of `torchvision.models`, by its name there, e.g. resnet18.

    With `pretrained` it starts from torchvision's default weights: the head is replaced where they have another number
    of classes, and the network keeps its three channels. The stem is `small` (stride 1, no first pooling), `native`, or
    `auto`: small for images under 64 pixels. Other arguments are passed on, e.g. dropout, norm_layer. Raises UserError for
    an unknown architecture or stem, and for weights that cannot be had.
    """
    _entry(architecture)
    Choice("auto", "small", "native").check(stem, "stem")
    if pretrained:
        return _pretrained(architecture, num_classes, **arguments)
    if architecture.startswith("vit_"):  # learns one position per patch: it must know the size
        arguments.setdefault("image_size", image_size)
    if architecture in ("googlenet", "inception_v3"):
        arguments |= {"aux_logits": False, "init_weights": True}
    net = models.get_model(architecture, weights=None, num_classes=num_classes, **arguments)
    first = next((path for path, module in net.named_modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and not architecture.startswith("vit_"):
        _replace_stem(net, first, in_channels, shrink=stem == "small" or (stem == "auto" and image_size < SMALL))
    return net


def passed_on(architecture: str) -> list[str]:
    """The names of the arguments that may be passed on to an architecture; UserError for an unknown one."""
    return arguments_in(inspect.getmodule(_entry(architecture)))


torchvision_classifier.passed_on = passed_on  # for checks before anything is built


def _entry(architecture: str) -> Callable[..., nn.Module]:
    if architecture not in (names := models.list_models(module=models)):
        raise UserError(f'torchvision has no classifier "{architecture}"{did_you_mean(architecture, names)}')
    return models.get_model_builder(architecture)


def _replace_stem(net: nn.Module, first: str, in_channels: int, *, shrink: bool) -> None:
    """Give the first convolution the data's channels and, for small images, stride 1 and no pooling after it."""
    old = net.get_submodule(first)
    stride, kernel, padding = old.stride, old.kernel_size, old.padding
    if shrink:
        stride = (1, 1)
        if kernel[0] > 3:  # a 7×7 kernel on an 8×8 digit mostly sees padding
            kernel, padding = (3, 3), old.dilation
    if in_channels != old.in_channels or stride != old.stride or kernel != old.kernel_size:
        groups = old.groups if in_channels % old.groups == 0 else 1
        kept = {"dilation": old.dilation, "bias": old.bias is not None, "padding_mode": old.padding_mode}
        new = nn.Conv2d(in_channels, old.out_channels, kernel, stride, padding, groups=groups, **kept)
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        net.set_submodule(first, new)
    if shrink and isinstance(getattr(net, "maxpool", None), nn.MaxPool2d):
        net.maxpool = nn.Identity()


def _pretrained(architecture: str, num_classes: int, **arguments: Any) -> nn.Module:
    """torchvision's default weights, the head new where the class counts differ."""
    weights = models.get_model_weights(architecture).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    net = models.get_model(architecture, weights=None, **arguments)
    try:
        net.load_state_dict(torch.hub.load_state_dict_from_url(weights.url, map_location="cpu", weights_only=True))
    except OSError as error:
        raise UserError(f"cannot download {weights.url} ({error}); put that file at {file}") from error
    except Exception as error:
        raise UserError(f"{file} does not hold torchvision's weights of {architecture}; delete it") from error
    path, head = [(path, module) for path, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    if head.out_features != num_classes:
        net.set_submodule(path, nn.Linear(head.in_features, num_classes))
    return net
