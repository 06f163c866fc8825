"""What is kept of each test sample beside a run's result: `predictions.npz`, one array a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from distillab.core.files import replacing
from distillab.evaluation.statistics import linearised

NAME = "predictions.npz"
MOST = 10**7  # samples of a test
LARGEST = 8  # bytes of a number


def write(path: Path, kept: Mapping[str, np.ndarray]) -> None:
    """Write arrays (N,): `labels` and by role the predicted class, and `nll_<role>` in nats; of text `bytes` and `bits_<role>` by document."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **kept)


def by_sample(path: Path, figure: str, role: str = "student") -> np.ndarray | None:
    """The figure on each test sample (N,), larger is better; its mean is the figure, with the sign of a gain.

    `figure` is `top1`, `nll` or `bits_per_byte`. None where it was not kept. Differences of two roles or runs on the same
    samples are what `families.Contrast.samples` and `statistics.score_test` take. ValueError for a file that is damaged.
    """
    names = {"top1": ("labels", role), "nll": (f"nll_{role}",), "bits_per_byte": ("bytes", f"bits_{role}")}
    if figure not in names or not path.is_file():
        return None
    arrays = _read(path, names[figure])
    if arrays is None:
        return None
    if figure == "top1":
        return (arrays[0] == arrays[1]).astype(float)
    return -(arrays[0] if figure == "nll" else linearised(arrays[1], arrays[0])).astype(float)


def together(figures: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Figures of several runs on the same samples (runs, N); None where one is missing, or has not as many samples."""
    if not figures or any(one is None for one in figures) or len({one.shape for one in figures}) > 1:
        return None
    return np.array(figures)


def differences(pairs: Sequence[tuple[np.ndarray | None, np.ndarray | None]]) -> np.ndarray | None:
    """What the first of each pair has more than the second on each sample, (pairs, N); None as of `together`."""
    found = together([each for pair in pairs for each in pair])
    return None if found is None else found[::2] - found[1::2]


def _read(path: Path, names: tuple[str, ...]) -> list[np.ndarray] | None:
    try:
        with ZipFile(path) as archive:  # what is far larger unpacked than any test is never unpacked
            sizes = {one.filename: one.file_size for one in archive.infolist()}
        if any(f"{name}.npy" not in sizes for name in names):
            return None
        if any(sizes[f"{name}.npy"] > LARGEST * MOST + 10_000 for name in names):
            raise ValueError("too large")
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in names]
    except Exception as error:  # a damaged archive may raise nearly anything
        raise ValueError(f"{path}: no answers of test samples") from error
    if not all(
        one.ndim == 1 and one.size and one.shape == arrays[0].shape and one.dtype.kind in "iuf" for one in arrays
    ):
        raise ValueError(f"{path}: no answers of the same test samples")
    return arrays
