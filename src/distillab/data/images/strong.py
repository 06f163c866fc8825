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
SHIFT = 150 / 331  # the share of a side by which an image is moved at most


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


def _blend(plain: Tensor, images: Tensor, level: Tensor, up: Tensor) -> Tensor:
    factor = _each(torch.where(up, 1 + 0.9 * level, 1 - 0.9 * level))
    # Product and sum apart: fused, their last bit would depend on the place in the batch.
    return (plain + factor * (images.int() - plain)).clamp_(0, 255).byte()


def _matrices(level: Tensor, up: Tensor, height: int, width: int) -> Tensor:
    """Matrices (x, y, 1) → (x, y) to where a pixel comes from, from the centre: (N, AFFINE operations, 6)."""
    sign = torch.where(up, 1.0, -1.0).to(level)
    angle, shear = sign * level * math.radians(30), sign * 0.3 * level
    right, down = (sign * (SHIFT * side * level).trunc() for side in (width, height))
    cos, sin, one, zero = angle.cos(), angle.sin(), torch.ones_like(level), torch.zeros_like(level)
    rows = [
        [cos, -sin, zero, sin, cos, zero],
        [one, shear, shear * height / 2, zero, one, zero],  # sheared about the top left corner
        [one, zero, zero, shear, one, shear * width / 2],
        [one, zero, -right, zero, one, zero],
        [one, zero, zero, zero, one, -down],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], 1).float()


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


def _each(values: Tensor) -> Tensor:
    """A number for each image (N,), rounded to float32, beside maps (N, C, H, W)."""
    return values.float()[:, None, None, None]


def _posterize(images: Tensor, level: Tensor) -> Tensor:
    """Keep the upper bits, 8 to 4 of them."""
    dropped = (4 * level).round().int()
    return images & (256 - (1 << dropped)).byte()[:, None, None, None]


# From images (N, C, H, W), the share of the highest strength (N,), and whether it goes up (N,). The last four lead away from
# a plainer picture or towards it; equalize leaves a channel as it is whose rarer values fill fewer than 255 pixels.
PIXEL = {
    "identity": lambda images, level, up: images,
    "auto_contrast": lambda images, level, up: _auto_contrast(images),
    "equalize": lambda images, level, up: v2.functional.equalize(images),
    "solarize": lambda images, level, up: torch.where(images >= _each(255 - 255 * level), 255 - images, images),
    "posterize": lambda images, level, up: _posterize(images, level),
    "brightness": lambda images, level, up: _blend(torch.zeros_like(images), images, level, up),
    "contrast": lambda images, level, up: _blend(_mean_grey(images), images, level, up),
    "color": lambda images, level, up: _blend(_grey(images), images, level, up),
    "sharpness": lambda images, level, up: _blend(_smooth(images), images, level, up),
}
AFFINE = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*PIXEL, *AFFINE)
# Where a drawn strength lies, as shares of the highest one, if not anywhere from 0 to 1, and whether it has either sign:
# the ranges of FixMatch (2001.07685).
DRAWN = dict.fromkeys(("brightness", "contrast", "color", "sharpness"), (0.05 / 0.9, 0.95 / 0.9, False))  # plainer only
DRAWN |= dict.fromkeys(("translate_x", "translate_y"), (0.0, 0.3 / SHIFT, True))
DRAWN |= {"posterize": (0.125, 1.125, False)}  # 7 to 4 bits, each as often


def drawn_strength(kind: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the highest strength (N,), uniform in each operation's range, and their signs (N,) bool.

    From one number in [0, 1) for each image: how far it is from the middle is the strength, its side the sign.
    """
    ranges = [DRAWN.get(name, (0.0, 1.0, True)) for name in OPERATIONS]
    low, high, signed = torch.tensor(ranges, dtype=number.dtype, device=kind.device)[kind].unbind(1)
    return low + (high - low) * (2 * number - 1).abs(), (number < 0.5) & signed.bool()


def operate(images: Tensor, kind: Tensor, level: Tensor, up: Tensor) -> Tensor:
    """Apply to each image (N, C, H, W) uint8 its operation, those that are alike together.

    `kind` (N,) int64 are places in `OPERATIONS`, `level` (N,) shares of the highest magnitude, in float64 where the device
    has that, and `up` (N,) bool the signs of the strengths where the operation has one.
    """
    # One look at the device for all operations.
    groups = kind.argsort(stable=True).split(torch.bincount(kind, minlength=len(OPERATIONS)).tolist())
    result = images.clone()
    for operation, alike in zip(PIXEL.values(), groups, strict=False):
        if len(alike):
            result[alike] = operation(images[alike], level[alike], up[alike])
    moved = torch.cat(groups[len(PIXEL) :])
    if len(moved):
        tables = _matrices(level[moved], up[moved], *images.shape[2:])
        own = (kind[moved] - len(PIXEL))[:, None, None].expand(-1, 1, tables.shape[2])
        result[moved] = affine(images[moved], tables.gather(1, own).squeeze(1))
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

    Each sample gets `operations` of `OPERATIONS`, drawn evenly and with repetition. Their strengths are drawn too, as in
    FixMatch and in what took its augmentation over, or all of one `magnitude` as in torchvision, where it is a number; a
    strength that has a sign gets either. `cutout` is the side of the largest grey square, as a share of the image's.
    """

    operations: Annotated[int, Range(0, high=MOST_OPERATIONS, whole=True)] = 2
    magnitude: Annotated[float | None, Range(0, high=LEVELS, null=True)] = None
    cutout: Annotated[float, Range(0, high=1)] = 0.5

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        """Change uint8 images (N, C, H, W) by the random numbers of `draw`."""
        for place in range(self.operations):
            stream = Stream.OPERATION + 2 * place
            kind, number = (draw(stream) * len(OPERATIONS)).long(), draw(stream + 1)
            number = number if number.device.type == "mps" else number.double()
            level, up = drawn_strength(kind, number)
            if self.magnitude is not None:
                level, up = torch.full_like(number, self.magnitude / LEVELS), number < 0.5
            images = operate(images, kind, level, up)
        return cutout(images, self.cutout, draw) if self.cutout else images
