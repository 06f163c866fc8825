"""What a loader yields and a step reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Batch:
    """One batch of N samples, seen in one or more views.

    Attributes:
        views: one image tensor (N, C, H, W) per view, the weak one first; uint8 as stored, or float in [0, 1] once
            prepared.
        labels: (N,) int64; (N, classes) float32 shares of the classes once samples are mixed.
        index: (N,) int64, each sample's place in its split; -1 where the loader does not know it.
        number: the view number of all of them (0 in evaluation).
        augmented: True once the views carry their augmentation.
        partners: the N samples that are still to be mixed in, as stored; None where none are.
    """

    views: list[Tensor]
    labels: Tensor
    index: Tensor
    number: int = 0
    augmented: bool = True
    partners: Batch | None = None

    @classmethod
    def of(cls, batch: Any) -> Batch:
        """Accept a Batch or what a plain DataLoader yields: a pair (images, labels)."""
        if isinstance(batch, cls):
            return batch
        images, labels = batch
        return cls([images], labels, torch.full_like(labels, -1))

    def __len__(self) -> int:
        return len(self.labels)
