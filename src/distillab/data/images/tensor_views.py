"""Decoded images in memory."""

from __future__ import annotations

from torch import Tensor

from distillab.data.images.image_batch import ImageBatch


class TensorViews:
    """Decoded images in memory; their augmentation is left to the device.

    Args:
        images, labels: (M, C, H, W) uint8, and (M,) int64.
        rows: (N,) int64, where each of the split's samples lies in `images`.
        augmented: False where an augmentation is still to come.
    """

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor, augmented: bool) -> None:
        self.images, self.labels, self.rows, self.augmented = images, labels, rows, augmented

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor, number: int) -> ImageBatch:
        """The samples `index` (n,) as they are stored, in one view."""
        rows = self.rows[index]
        batch = ImageBatch.of([self.images[rows]], self.labels[rows], index, number)
        batch.augmented = self.augmented
        return batch
