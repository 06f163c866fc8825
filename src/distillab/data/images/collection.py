"""What an image dataset is before it is split into batches."""

from dataclasses import dataclass

from torch import Tensor

from distillab.data.collection import Collection, DataInfo


@dataclass(frozen=True, kw_only=True)
class ImageInfo(DataInfo):
    """What a model must know of its images: square, of `channels`, values in [0, 1], and their mean and std there."""

    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ImageCollection(Collection):
    """All images of a dataset, either decoded or as files.

    Attributes:
        channels: 1 or 3.
        image_size: height and width.
        images: (M, C, H, W) uint8, or None where they are read from files.
        files: M paths, or None.
    """

    channels: int
    image_size: int
    images: Tensor | None = None
    files: list[str] | None = None
