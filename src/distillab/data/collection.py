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
    """All samples of a dataset and the splits that came with it; a kind of sample adds the samples themselves.

    Attributes:
        content: hash of the samples.
        classes: names in label order.
        labels: (M,) int64.
        train: rows of `labels` that may be trained on.
        test: rows for the test.
        validation: rows of a validation split that the dataset brings itself, or None.
        files_stamp: where samples stay in files: hash of the files' times and of the libraries that decode them.
    """

    content: str
    classes: tuple[str, ...]
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None
    files_stamp: str | None = None


def digest(content: str | bytes | ArrayLike) -> str:
    """Hash text, bytes or the bytes of an array."""
    return hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).hexdigest()


def fingerprint(described: Mapping[str, Any], arrays: Iterable[np.ndarray]) -> str:
    """Hash what JSON can hold, and arrays of whole numbers in their order."""
    whole = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for array in arrays:
        whole.update(hashlib.blake2b(array.astype("<i8").tobytes(), digest_size=16).digest())
    return whole.hexdigest()
