"""Checks of a loss's arguments, and the precision in which it computes."""

import torch
from torch import Tensor

from distillab.core.errors import UserError


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32 or wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def widened(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype of `s`, but in float32 at least; no gradient reaches `t`."""
    s = at_least_float32(s)
    return s, t.detach().to(s.dtype)


def check_positive(**numbers: float) -> None:
    """Refuse a number that is not above 0."""
    for name, value in numbers.items():
        if value <= 0:
            raise UserError(f"{name} must be a number above 0, got {value}")


def check_whole(least: int = 1, **numbers: int) -> None:
    """Refuse what is no whole number from `least`."""
    for name, value in numbers.items():
        if not isinstance(value, int) or value < least:
            raise UserError(f"{name} must be a whole number from {least}, got {value!r}")


def check_same_shape(**tensors: Tensor) -> None:
    """Refuse tensors of unequal shapes."""
    shapes = [tuple(x.shape) for x in tensors.values()]
    if len(set(shapes)) > 1:
        raise UserError(f"{' and '.join(tensors)} must have one shape, got {' and '.join(map(str, shapes))}")


def check_same_channels(**maps: Tensor) -> None:
    """Refuse maps (N, C, …) of unequal C."""
    channels = [x.shape[1] for x in maps.values()]
    if len(set(channels)) > 1:
        raise UserError(f"{' and '.join(maps)} must have equal channels, got {' and '.join(map(str, channels))}")
