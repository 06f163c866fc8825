"""The augmentation of one dataset: a view is a pure function of (view seed, view number, sample index).

The number of an epoch's views is the epoch. Each number has a weak view (0) and a strong one (1), so methods that learn
from one view and methods that learn from two share the weak ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor

from distillab.core.errors import UserError
from distillab.data.images.strong import Strong
from distillab.data.images.views import Draw, Stream, horizontal_flip, random_crop, uniform

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
        view_seed: see `uniform`.
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
        allowed = [field.name for field in fields(cls) if field.name != "view_seed"]
        if unknown := sorted(set(numbers) - set(allowed)):
            raise UserError(
                f"data.augment has no {', '.join(unknown)}; it has {', '.join(allowed)}: ~data.augment.{unknown[0]}"
            )
        numbers["strong"] = Strong.of(numbers.get("strong"))
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
        for name in MIXING:
            alpha = getattr(augment, name)
            if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
                raise UserError(
                    f"data.augment.{name} is the alpha of a Beta distribution, above 0, or 0 for off, not {alpha!r}: "
                    f"data.augment.{name}=1.0"
                )
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
        """Make one view of number `number` of images, on their device.

        Args:
            images: (N, C, H, W) uint8.
            index: (N,) int64, the samples.
            number: the view number.
            view: 0 is weak, 1 strong.
        """
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
