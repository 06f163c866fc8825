"""What a loader yields and a step reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
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
        host_index: (N,) `index` in the host's memory, wherever the batch goes: to read it off a GPU means to wait for
            all that the GPU still has to do. None where the batch was made on one.
    """

    views: list[Tensor]
    labels: Tensor
    index: Tensor
    number: int = 0
    augmented: bool = True
    partners: Batch | None = None
    host_index: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.host_index is None and self.index.device.type == "cpu":
            self.host_index = self.index.numpy()

    @classmethod
    def of(cls, batch: Any) -> Batch:
        """Accept a Batch or what a plain DataLoader yields: a pair (images, labels)."""
        if isinstance(batch, cls):
            return batch
        images, labels = batch
        return cls([images], labels, torch.full_like(labels, -1))

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device; the host does not wait until it is there."""

        def sent(values: Tensor) -> Tensor:
            if torch.device(device).type != "cuda" or values.is_cuda:
                return values.to(device)
            return values.pin_memory().to(device, non_blocking=True)  # out of other memory CUDA makes the host wait

        views, partners = [sent(view) for view in self.views], self.partners and self.partners.to(device)
        return replace(self, views=views, labels=sent(self.labels), index=sent(self.index), partners=partners)

    def __len__(self) -> int:
        return len(self.labels)
