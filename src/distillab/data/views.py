"""Seeded augmentation on image tensors: a view is a pure function of (view seed, view number, sample index)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distillab.errors import UserError

Draw = Callable[[int], Tensor]  # stream -> (N,) uniform numbers, one per sample


class Stream(IntEnum):
    """Independent random numbers of one view; every use has its own, so a new operation changes no old one."""

    SAMPLE = 0
    ORDER = 1
    CROP_ROW = 2
    CROP_COLUMN = 3
    FLIP = 4


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


_STEP = _signed(0x9E3779B97F4A7C15)
_MULTIPLIERS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _shift(word: Tensor, bits: int) -> Tensor:
    # int64 shifts copy the sign; masking makes the shift logical.
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shift(word, 30)) * _MULTIPLIERS[0]
    word = (word ^ _shift(word, 27)) * _MULTIPLIERS[1]
    return word ^ _shift(word, 31)


def random_bits(seed: int, number: int, index: Tensor, stream: int) -> Tensor:
    """Hash (seed, number, stream, index) to 64 random bits by SplitMix64 (Steele et al., OOPSLA 2014).

    Args:
        seed: any int64.
        number: view number or epoch.
        index: (N,) int64, on any device.
        stream: which of the view's random numbers.

    Returns:
        (N,) int64 on the device of `index`; the same values on every device.
    """
    key = torch.zeros((), dtype=torch.int64)
    for word in (seed, number, int(stream)):
        key = _mix((key ^ word) + _STEP)
    return _mix((index.long() + 1) * _STEP + int(key))


def uniform(view_seed: int, number: int, index: Tensor, stream: int) -> Tensor:
    """Draw one number per sample: (N,) float32 in [0, 1), a pure function of the arguments (see `random_bits`)."""
    return _shift(random_bits(view_seed, number, index, stream), 40).float() * 2.0**-24


def random_crop(images: Tensor, padding: int, draw: Draw) -> Tensor:
    """Pad with zeros on every side and cut out the original size at a random place.

    Args:
        images: (N, C, H, W), any dtype.
        padding: pixels added on each side.
        draw: gives the random numbers.

    Returns:
        (N, C, H, W), same dtype.
    """
    count, _, height, width = images.shape
    top, left = ((draw(stream) * (2 * padding + 1)).long() for stream in (Stream.CROP_ROW, Stream.CROP_COLUMN))
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    sample = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, [padding] * 4).permute(0, 2, 3, 1)
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def horizontal_flip(images: Tensor, draw: Draw) -> Tensor:
    """Mirror each image of (N, C, H, W) left to right with probability one half."""
    return torch.where((draw(Stream.FLIP) < 0.5)[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class Augment:
    """The augmentation of one dataset, from plain numbers.

    Attributes:
        crop: padding of the random crop in pixels; 0 is off.
        flip: mirror half of the images.
        resized_crop: smallest share of the area that a random resized crop keeps; 0 is off. Only for image files that
            are read again for every view: `__call__` sees images of one size and leaves it out.
        view_seed: see `uniform`.
    """

    crop: int = 0
    flip: bool = False
    resized_crop: float = 0.0
    view_seed: int = 0

    @classmethod
    def of(cls, numbers: Mapping[str, Any] | None, view_seed: int) -> Augment:
        """Check the numbers of `data.augment`. Raises UserError for an unknown key or a number out of range."""
        numbers = dict(numbers or {})
        allowed = [field.name for field in fields(cls) if field.name != "view_seed"]
        if unknown := sorted(set(numbers) - set(allowed)):
            raise UserError(
                f"data.augment has no {', '.join(unknown)}; it has {', '.join(allowed)}: ~data.augment.{unknown[0]}"
            )
        augment = cls(**numbers, view_seed=view_seed)
        if not isinstance(augment.crop, int) or augment.crop < 0:
            raise UserError(f"data.augment.crop is a number of pixels, not {augment.crop!r}: data.augment.crop=4")
        if not isinstance(augment.flip, bool):
            raise UserError(f"data.augment.flip is true or false, not {augment.flip!r}: data.augment.flip=true")
        if not isinstance(augment.resized_crop, int | float) or not 0 <= augment.resized_crop <= 1:
            raise UserError(
                f"data.augment.resized_crop is a share of the area from 0 to 1, not {augment.resized_crop!r}: "
                "data.augment.resized_crop=0.08"
            )
        return augment

    def numbers(self) -> dict[str, Any]:
        """All numbers, for a fingerprint."""
        return asdict(self)

    def __call__(self, images: Tensor, index: Tensor, number: int) -> Tensor:
        """Make view `number` of uint8 images (N, C, H, W), whose samples are `index` (N,), on their device."""
        draw = partial(uniform, self.view_seed, number, index)
        if self.crop:
            images = random_crop(images, self.crop, draw)
        if self.flip:
            images = horizontal_flip(images, draw)
        return images
