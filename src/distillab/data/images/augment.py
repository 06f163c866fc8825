"""The augmentation of one dataset: a view is a pure function of (view seed, view number, sample index).

The number of an epoch's views is the epoch. Each number has a weak view (0) and a strong one (1), so methods that learn
from one view and methods that learn from two share the weak ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from typing import Any

from torch import Tensor

from distillab.core.errors import UserError
from distillab.data.checks import is_number, require, require_keys
from distillab.data.images.strong import Strong
from distillab.data.images.views import horizontal_flip, random_crop
from distillab.data.seeded import Draw, Stream, uniform

MIXING = ("mixup", "cutmix")


@dataclass(frozen=True)
class Augment:
    """The augmentation of one dataset, from plain numbers.

    Attributes:
        crop: padding of the random crop in pixels; 0 is off.
        flip: mirror half of the images.
        resized_crop: smallest share of the area that a random resized crop keeps; 0 is off. Only for image files that
            are read again for every view: `__call__` sees images of one size and leaves it out.
        mixup: alpha of Mixup's Beta distribution; 0 is off. See `distillab.data.images.mix`.
        cutmix: alpha of CutMix's; 0 is off. Where both are on, a fair coin chooses for each sample.
        strong: what the strong view adds; None leaves no strong view.
        view_seed: see `distillab.data.seeded.uniform`.
    """

    crop: int = 0
    flip: bool = False
    resized_crop: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    strong: Strong | None = None
    view_seed: int = 0

    @classmethod
    def of(cls, numbers: Mapping[str, Any] | None, view_seed: int) -> Augment:
        """Check the numbers of `data.augment`. Raises UserError for an unknown key or a number out of range."""
        numbers = dict(numbers or {})
        require_keys("data.augment", numbers, [field.name for field in fields(cls) if field.name != "view_seed"])
        numbers["strong"] = Strong.of(numbers.get("strong"))
        augment = cls(**numbers, view_seed=view_seed)
        share = "a share of the area from 0 to 1"
        alpha = "the alpha of a Beta distribution, above 0, or 0 for off"
        for name, is_allowed, what, instead in (
            ("crop", lambda value: is_number(value, 0, kind=Integral), "a number of pixels", 4),
            ("flip", lambda value: isinstance(value, bool), "true or false", "true"),
            ("resized_crop", lambda value: is_number(value, 0, 1), share, 0.08),
            *((name, lambda value: is_number(value, 0) and value < math.inf, alpha, 1.0) for name in MIXING),
        ):
            value = getattr(augment, name)
            require(f"data.augment.{name}", value, is_allowed(value), what=what, instead=instead)
        return augment

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    def check_images(self, name: str, size: int, decoded: bool) -> None:
        """Raise UserError where images of so many pixels, decoded or in files, cannot be augmented so."""
        if self.crop > size:
            raise UserError(
                f"data.augment.crop={self.crop} is larger than the images ({size} pixels): data.augment.crop={size // 8}"
            )
        if self.mixes and not decoded:
            raise UserError(
                f"data={name} is read from files, and only decoded images are mixed: data.augment.mixup=0 "
                "data.augment.cutmix=0, or data.augment.resized_crop=0 and a larger data.memory_budget=…"
            )

    def numbers(self, views: int) -> dict[str, Any]:
        """All numbers that so many views of a sample depend on, for a fingerprint."""
        numbers = asdict(self)
        if views == 1:
            del numbers["strong"]
        for name in MIXING:
            # What is off leaves no trace, so networks trained before there was mixing keep their keys.
            numbers[name] = float(numbers[name])
            if not numbers[name]:
                del numbers[name]
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
