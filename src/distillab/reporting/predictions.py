"""What the students of some runs answered on the test samples."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

if TYPE_CHECKING:
    from distillab.core.result import Result

Answers = Mapping[str, tuple[Any, Any]]


def read_predictions(results: Sequence[Result], runs: Path) -> tuple[Answers, list[str]]:
    """Config hash → labels and predicted classes (N,) of each run's test samples, and a line for each file left out.

    A run without such a file is not among them; one whose file is damaged is named.

    Args:
        results: as `result_reader.load_all` gives them.
        runs: the folder that holds their runs.
    """
    found, left_out = {}, []
    for result in results:
        place = Path(result.name, result.config_hash, "predictions.npz")
        if (runs / place).is_file():
            answers = _read(runs / place)
            if answers is None:
                left_out.append(f"{runs / place}: no labels and answers of as many test samples")
            else:
                found[result.config_hash] = answers
    return found, left_out


def _read(path: Path) -> tuple[Any, Any] | None:
    import numpy as np

    try:
        with np.load(path) as kept:
            labels, student = kept["labels"], kept["student"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error):
        return None
    whole = labels.ndim == 1 and labels.shape == student.shape and labels.size
    return (labels, student) if whole and labels.dtype.kind in "iu" and student.dtype.kind in "iu" else None
