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
class DataInfo:
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
        files_stamp: where images are read from files: hash of the files' times and of the libraries that decode them.
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
    files_stamp: str | None = None


def fingerprint(
    collection: Collection, spec: DataInfo, rows: Mapping[str, np.ndarray], numbers: Mapping[str, Any]
) -> str:
    """Hash content, labels, the rows of each split, normalisation and further numbers, but no place or name."""
    described = asdict(spec) | {"content": collection.content, "on_files": collection.images is None, **numbers}
    del described["name"], described["classes"]
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for array in (collection.labels, *(rows[split] for split in sorted(rows))):
        digest.update(hashlib.blake2b(array.astype("<i8").tobytes(), digest_size=16).digest())
    return digest.hexdigest()
