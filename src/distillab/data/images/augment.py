"""The augmentation of one dataset: a view is a pure function of (view seed, view number, sample index).

The number of an epoch's views is the epoch. Each number has a weak view (0) and a strong one (1).
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from distillab.core.allowed import Amount, Flag, Range
from distillab.core.errors import UserError
from distillab.core.group import Group, group
from distillab.data.images.strong import Strong
from distillab.data.seeded import Draw, Stream, uniform


@group
class Augment(Group):
    """The augmentation of one dataset, from plain numbers; conf/data/folder.yaml says what each is for.

    `resized_crop` is made where image files are read, and `mixup` and `cutmix` in `distillab.data.images.mix`.
    """

    PATH: ClassVar[str] = "data.augment"

    crop: Annotated[int, Range(0, whole=True)] = 0
    flip: Flag = False
    resized_crop: Annotated[float, Range(0, high=1)] = 0.0
    mixup: Amount = 0.0
    cutmix: Amount = 0.0
    strong: Strong | None = None
    view_seed: int = 0

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None = None, path: str | None = None, *, view_seed: int = 0) -> Self:
        """The augmentation that `data.augment` describes; raises UserError as `Group.of`."""
        if isinstance(given, Mapping) and "view_seed" in given:
            raise UserError("data.augment has no view_seed; set data.view_seed=…")
        return replace(super().of(given, path), view_seed=view_seed)

    def numbers(self, views: int) -> dict[str, Any]:
        """All numbers that so many views of a sample depend on, for a fingerprint."""
        numbers = asdict(self)
        if views == 1:
            del numbers["strong"]
        for name in ("mixup", "cutmix"):
            # What is off leaves no trace, so networks trained before there was mixing keep their keys.
            if alpha := numbers.pop(name):
                numbers[name] = float(alpha)
        return numbers

    def __call__(self, images: Tensor, index: Tensor, number: int, view: int = 0) -> Tensor:
        """Make one view, weak (0) or strong (1), of a view number of images (N, C, H, W) uint8, on their device."""
        draw = self._draw(index, number, view)
        if self.crop:
            images = random_crop(images, self.crop, draw)
        if self.flip:
            images = horizontal_flip(images, draw)
        return self.strengthen(images, index, number) if view else images

    def strengthen(self, images: Tensor, index: Tensor, number: int) -> Tensor:
        """Make a strong view of images that are cropped and flipped already; the arguments of `__call__`."""
        return self.strong(images, self._draw(index, number, 1))

    def _draw(self, index: Tensor, number: int, view: int) -> Draw:
        offset = Stream.STRONG if view else 0
        return lambda stream: uniform(self.view_seed, number, index, stream + offset)


def random_crop(images: Tensor, padding: int, draw: Draw) -> Tensor:
    """Pad images (N, C, H, W) with zeros on every side and cut out the original size at a random place."""
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
