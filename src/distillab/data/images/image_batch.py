"""A batch of images on its way from the loader to the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from distillab.data.batch import AS_STORED, Batch


@dataclass
class ImageBatch(Batch):
    """A batch whose inputs are `pixels` (N, C, H, W): uint8 as stored, float in [0, 1] once prepared.

    Attributes:
        augmented: True once the views carry their augmentation.
        partners: the N samples that are still to be mixed in, as stored; None where none are.
    """

    augmented: bool = True
    partners: ImageBatch | None = None

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
