"""What every dataset is before it is split into batches."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class DataInfo:
    """What a model must know of its data; a kind of sample adds its own fields."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Collection:
    """All samples of a dataset and the splits that came with it; a kind of sample adds the samples themselves."""

    content: str  # hash of the samples
    classes: tuple[str, ...]  # names in label order
    labels: np.ndarray  # (M,) int64
    train: np.ndarray  # rows of `labels` that may be trained on
    test: np.ndarray  # rows for the test
    validation: np.ndarray | None = None  # rows of a validation split that the dataset brings itself
    files_stamp: str | None = None  # of samples that stay in files: hash of their times and of the decoding libraries
    decoder: str | None = None  # of samples that stay in files: the names and versions of what decodes them
    dataset: str | None = None  # what names the data set however it is read; None is `content`


def digest(content: str | bytes | ArrayLike) -> str:
    """Hash text, bytes or the bytes of an array."""
    if isinstance(content, str):
        content = content.encode(errors="surrogateescape")  # a file's name may hold any bytes
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def fingerprint(described: Mapping[str, Any], arrays: Iterable[np.ndarray]) -> str:
    """Hash what JSON can hold, and arrays of whole numbers in their order."""
    parts = [hashlib.blake2b(array.astype("<i8").tobytes(), digest_size=16).digest() for array in arrays]
    return digest(b"".join([json.dumps(described, sort_keys=True).encode(), *parts]))
