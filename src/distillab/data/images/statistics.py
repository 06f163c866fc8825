"""Mean and standard deviation per channel, by which models normalise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distillab.core.errors import UserError
from distillab.data.images.collection import ImageCollection
from distillab.data.images.file_views import FileViews

IMAGES = 10_000
FILES = 500  # read at every start where they are not decoded, so few

Numbers = tuple[float, ...]


def image_statistics(images: np.ndarray) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation per channel, in [0, 1], of uint8 images (N, C, H, W)."""
    levels = np.arange(256) / 255
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in images.swapaxes(0, 1)])
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 1e-12))  # a constant channel must not divide by zero
    return tuple(mean.round(6).tolist()), tuple(std.round(6).tolist())


def evenly_spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, evenly spaced: enough for a mean, the same ones every time."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]


def measured(collection: ImageCollection, rows: np.ndarray, files: FileViews | None) -> tuple[Numbers, Numbers]:
    """The statistics of some of the images `rows`: of decoded ones, or of `files` where there are none."""
    if files is None:
        return image_statistics(collection.images.numpy()[evenly_spaced(rows, IMAGES)])
    some = evenly_spaced(np.arange(len(files)), FILES)
    return image_statistics(np.stack([files[int(index), 0][0][0].numpy() for index in some]))


def given(mean: Sequence[float], std: Sequence[float], channels: int) -> tuple[Numbers, Numbers]:
    """The user's numbers, checked. Raises UserError where they are not one per channel."""
    mean, std = (tuple(float(value) for value in values) for values in (mean, std))
    if not len(mean) == len(std) == channels:
        found = f"{len(mean)} and {len(std)} numbers for {channels} channels"
        raise UserError(f"data.mean and data.std have {found}: data.mean=null data.std=null")
    return mean, std
