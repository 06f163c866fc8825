"""The strong view: RandAugment and cutout on whole batches of uint8 images, every sample with its own operations.

The arithmetic is Pillow's, in integers wherever that is exact, so a sample's view does not depend on its batch.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from distillab.core.allowed import Range
from distillab.core.group import Group, group
from distillab.data.seeded import Draw, Stream

LEVELS = 30  # the highest magnitude
MOST_OPERATIONS = 16  # each has two of the view's streams
FILL = 127  # grey: what cutout leaves


def _auto_contrast(images: Tensor) -> Tensor:
    """Stretch each channel to 0 … 255."""
    low, high = images.amin((2, 3), keepdim=True).int(), images.amax((2, 3), keepdim=True).int()
    stretched = (images.int() - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched.byte(), images)


def _grey(images: Tensor) -> Tensor:
    """Luma (ITU-R 601) in the 16-bit fixed point of Pillow."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().split(1, dim=1)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def _mean_grey(images: Tensor) -> Tensor:
    grey = _grey(images)
    total, count = grey.sum((1, 2, 3), keepdim=True), grey[0].numel()
    return (2 * total + count) // (2 * count)


def _smooth(images: Tensor) -> Tensor:
    """The 3×3 mean with a fivefold centre; the outermost pixels stay."""
    pixels = images.int()
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[:, :, 1:-1, 1:-1]
    smooth = pixels.clone()
    smooth[:, :, 1:-1, 1:-1] = (2 * total + 13) // 26
    return smooth


def _blend(plain: Tensor, images: Tensor, level: float, up: Tensor) -> Tensor:
    factor = torch.where(up, 1 + 0.9 * level, 1 - 0.9 * level)[:, None, None, None]
    # Product and sum apart: fused, their last bit would depend on the place in the batch.
    return (plain + factor * (images.int() - plain)).clamp_(0, 255).byte()


def _affine_tables(level: float, height: int, width: int) -> list[list[list[float]]]:
    """Matrices (x, y, 1) → (x, y) to where a pixel comes from, from the centre, by [AFFINE operation][sign]."""

    def signed(sign: int) -> list[list[float]]:
        angle, shear = sign * math.radians(30 * level), sign * 0.3 * level
        right, down = (sign * int(150 / 331 * side * level) for side in (width, height))
        cos, sin = math.cos(angle), math.sin(angle)
        return [
            [cos, -sin, 0, sin, cos, 0],
            [1, shear, shear * height / 2, 0, 1, 0],  # sheared about the top left corner
            [1, 0, 0, shear, 1, shear * width / 2],
            [1, 0, -right, 0, 1, 0],
            [1, 0, 0, 0, 1, -down],
        ]

    return [list(pair) for pair in zip(signed(-1), signed(1), strict=True)]


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Move each image of (N, C, H, W) by its own matrix (N, 6); bilinear, with black from outside.

    Bilinear, where RandAugment's authors take the nearest pixel: on images of 8×8 that would do nothing or too much.
    """
    height, width = images.shape[2:]
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    grid = torch.stack([(a * x + b * y + c) * (2 / width), (d * x + e * y + f) * (2 / height)], dim=-1)
    return F.grid_sample(images.float(), grid, align_corners=False).round_().byte()


# From images (N, C, H, W), the share of the highest strength, and whether it goes up (N,). The last four lead away from a
# plainer picture or towards it; equalize leaves a channel as it is whose rarer values fill fewer than 255 pixels.
PIXEL = {
    "identity": lambda images, level, up: images,
    "auto_contrast": lambda images, level, up: _auto_contrast(images),
    "equalize": lambda images, level, up: v2.functional.equalize(images),
    "solarize": lambda images, level, up: torch.where(images >= 255 - 255 * level, 255 - images, images),
    "posterize": lambda images, level, up: images & (256 - (1 << round(4 * level))),  # keeps 8 to 4 bits
    "brightness": lambda images, level, up: _blend(torch.zeros_like(images), images, level, up),
    "contrast": lambda images, level, up: _blend(_mean_grey(images), images, level, up),
    "color": lambda images, level, up: _blend(_grey(images), images, level, up),
    "sharpness": lambda images, level, up: _blend(_smooth(images), images, level, up),
}
AFFINE = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*PIXEL, *AFFINE)


def operate(images: Tensor, kind: Tensor, level: float, up: Tensor) -> Tensor:
    """Apply to each image (N, C, H, W) uint8 its operation, those that are alike together.

    `kind` (N,) int64 are places in `OPERATIONS`, `level` is a share of the highest magnitude, and `up` (N,) bool the
    sign of the strength where the operation has one.
    """
    # One look at the device for all operations.
    groups = kind.argsort(stable=True).split(torch.bincount(kind, minlength=len(OPERATIONS)).tolist())
    result = images.clone()
    for operation, alike in zip(PIXEL.values(), groups, strict=False):
        if len(alike):
            result[alike] = operation(images[alike], level, up[alike])
    moved = torch.cat(groups[len(PIXEL) :])
    if len(moved):
        tables = torch.tensor(_affine_tables(level, *images.shape[2:]), device=images.device)
        result[moved] = affine(images[moved], tables[kind[moved] - len(PIXEL), up[moved].long()])
    return result


def cutout(images: Tensor, share: float, draw: Draw) -> Tensor:
    """Grey out one square of images (N, C, H, W) uint8; its centre lies anywhere (arXiv 1708.04552).

    Its side is uniform from 0 to `share` of the image's shorter one.
    """
    height, width = images.shape[2:]
    side = (draw(Stream.CUTOUT_SIDE) * (int(share * min(height, width)) + 1)).long()
    centre = draw(Stream.CUTOUT_ROW), draw(Stream.CUTOUT_COLUMN)
    return images.masked_fill(box(side, centre, (height, width))[:, None], FILL)


def box(side: Tensor, centre: tuple[Tensor, Tensor], size: tuple[int, int]) -> Tensor:
    """Mask (N, H, W) of squares of `side` (N,) pixels around a row and a column (N,) in [0, 1), cut at the borders."""

    def inside(at: Tensor, length: int) -> Tensor:
        first = ((at * length).long() - side // 2)[:, None]
        place = torch.arange(length, device=side.device)
        return (place >= first) & (place < first + side[:, None])

    return inside(centre[0], size[0])[:, :, None] & inside(centre[1], size[1])[:, None, :]


@group
class Strong(Group):
    """What a strong view adds to crop and flip: RandAugment (1909.13719), then cutout.

    Each sample gets `operations` of `OPERATIONS`, drawn evenly and with repetition, all of a `magnitude` as in torchvision;
    a strength that has a sign gets either. `cutout` is the side of the largest grey square, as a share of the image's.
    """

    operations: Annotated[int, Range(0, high=MOST_OPERATIONS, whole=True)] = 2
    magnitude: Annotated[float, Range(0, high=LEVELS)] = 10
    cutout: Annotated[float, Range(0, high=1)] = 0.5

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        """Change uint8 images (N, C, H, W) by the random numbers of `draw`."""
        for place in range(self.operations):
            stream = Stream.OPERATION + 2 * place
            kind = (draw(stream) * len(OPERATIONS)).long()
            images = operate(images, kind, self.magnitude / LEVELS, draw(stream + 1) < 0.5)
        return cutout(images, self.cutout, draw) if self.cutout else images
