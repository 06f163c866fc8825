"""A batch of large images in parts that fit into a CPU's caches, where it is computed and not learned from."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from distillab.models.model import Model

AT_ONCE = 2**20  # numbers of a part: 341 images of 32×32 in colour, 21 of 128×128
OF_THE_MODEL = ("head", "norms")  # what is read of the model itself, and is the same for all parts


def in_parts(model: Model, inputs: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The parts of a batch; on other devices than the CPU, and of other networks than those of images, all of it.

    A network that sees 32×32 images takes all at once; one of 128×128 images runs two to three times as fast in parts.
    """
    first = next(iter(inputs.values()))
    shape = getattr(model, "net_shape", None)
    rows = max(1, AT_ONCE // prod(shape)) if shape and first.device.type == "cpu" else max(1, len(first))
    for start in range(0, max(1, len(first)), rows):
        yield {name: values[start : start + rows] for name, values in inputs.items()}


def read_in_parts(read: Callable[..., SimpleNamespace], model: Model, inputs: Mapping[str, Tensor]) -> SimpleNamespace:
    """What a feature extractor reads of a batch, part by part."""
    parts = [read(**part) for part in in_parts(model, inputs)]
    if len(parts) == 1:
        return parts[0]
    return SimpleNamespace(**{name: _joined(name, [getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _joined(name: str, values: list[Any]) -> Any:
    if name in OF_THE_MODEL:
        return values[0]
    if isinstance(values[0], list):
        return [torch.cat(each) for each in zip(*values, strict=True)]
    return torch.cat(values)
