"""What every image dataset is before it is split into batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data: square images of `channels`, values in [0, 1], one of `classes`."""

    name: str
    classes: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Collection:
    """All images of a dataset, either decoded or as files, and the splits that came with it.

    Attributes:
        content: hash of the images' content.
        classes: names in label order.
        channels: 1 or 3.
        image_size: height and width.
        labels: (M,) int64.
        train: rows of `labels` that may be trained on.
        test: rows for the test.
        validation: rows of a validation split that the dataset brings itself, or None.
        images: (M, C, H, W) uint8, or None where they are read from files.
        files: M paths, or None.
    """

    content: str
    classes: tuple[str, ...]
    channels: int
    image_size: int
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None
    images: Tensor | None = None
    files: list[str] | None = None


def image_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
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


def fingerprint(
    collection: Collection, spec: DataSpec, rows: Mapping[str, np.ndarray], numbers: Mapping[str, Any]
) -> str:
    """Hash content, labels, the rows of each split, normalisation and further numbers, but no place or name."""
    described = asdict(spec) | {"content": collection.content, "on_files": collection.images is None, **numbers}
    del described["name"], described["classes"]
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for array in (collection.labels, *(rows[split] for split in sorted(rows))):
        digest.update(hashlib.blake2b(array.astype("<i8").tobytes(), digest_size=16).digest())
    return digest.hexdigest()
