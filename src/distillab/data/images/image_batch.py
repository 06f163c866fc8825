"""Batches of images on their way from memory or a loader to the step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from distillab.data.batch import AS_STORED, Batch


@dataclass
class ImageBatch(Batch):
    """A batch whose inputs are `pixels` (N, C, H, W): uint8 as stored, float in [0, 1] once prepared."""

    augmented: bool = True  # once the views carry their augmentation
    partners: Self | None = None  # the N samples that are still to be mixed in

    @classmethod
    def of(cls, views: Sequence[Tensor], labels: Tensor, index: Tensor | None = None, number: int = AS_STORED) -> Self:
        """From one tensor per view; samples without an index are unknown to the loader."""
        index = torch.full((len(labels),), -1, device=labels.device) if index is None else index
        return cls([{"pixels": view} for view in views], {"labels": labels}, index, number)

    @property
    def pixels(self) -> list[Tensor]:
        """One tensor (N, C, H, W) per view."""
        return [view["pixels"] for view in self.inputs]

    def to(self, device: torch.device | str) -> Self:
        """The same on a device, its partners too."""
        return replace(super().to(device), partners=self.partners and self.partners.to(device))


@dataclass(eq=False)
class TensorViews:
    """Decoded images in memory; their augmentation is left to the device."""

    images: Tensor  # (M, C, H, W) uint8
    labels: Tensor  # (M,) int64
    rows: Tensor  # (N,) int64: where each of the split's samples lies in `images`
    augmented: bool = False  # else an augmentation is still to come

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor, number: int) -> ImageBatch:
        """The samples `index` (n,) as they are stored, in one view."""
        rows = self.rows[index]
        return replace(ImageBatch.of([self.images[rows]], self.labels[rows], index, number), augmented=self.augmented)
