"""Stratified seeded splits; the frozen streams of RandomState keep a split the same in every numpy."""

from __future__ import annotations

import numpy as np

from distillab.core.errors import UserError

TEST_FRACTION = 0.2
TEST_SEED = 20150309  # never the user's: the test images stay the same in every study


def check_split(validation: float, split_seed: int) -> None:
    """Raise UserError where the numbers of the validation split are out of range."""
    if not 0 <= validation < 1:
        raise UserError(f"data.validation is a fraction from 0 to below 1, not {validation}: data.validation=0.1")
    if not 0 <= split_seed < 2**32:
        raise UserError(f"data.split_seed is from 0 to 2**32 - 1, not {split_seed}: data.split_seed=0")


def _quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """Share `total` among classes: one each, the rest in proportion, by largest remainders."""
    exact = (counts - 1) * (total - len(counts)) / max(1, counts.sum() - len(counts))
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    missing = total - len(counts) - quotas.sum()
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return quotas + 1


def draw_stratified(rows: np.ndarray, labels: np.ndarray, total: int, seed: tuple[int, ...]) -> np.ndarray:
    """Draw `total` of `rows`, every class in proportion and at least once.

    Args:
        rows: (N,) positions in `labels`.
        labels: labels of the whole dataset.
        total: from the number of classes to N.
        seed: numbers from 0 to 2**32 - 1.

    Returns:
        (total,) of `rows`, ascending.
    """
    generator = np.random.RandomState(seed)
    present, counts = np.unique(labels[rows], return_counts=True)
    quotas = _quotas(counts, total)
    drawn = [
        generator.permutation(rows[labels[rows] == label])[:quota] for label, quota in zip(present, quotas, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def limit(
    rows: np.ndarray, labels: np.ndarray, classes: int, samples: int, seed: tuple[int, ...], name: str
) -> np.ndarray:
    """Draw `samples` of the training images `rows` of data `name`. Raises UserError where there are not as many."""
    if not classes <= samples <= len(rows):
        nearest = max(classes, min(samples, len(rows)))
        raise UserError(
            f"data.samples={samples} is not between {classes} (one per class) and {len(rows)} "
            f"(all training images of {name}): data.samples={nearest}, or data.samples=null"
        )
    return draw_stratified(rows, labels, samples, seed)


def carve(
    rows: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], fraction: float, seed: tuple[int, ...], mend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split `rows` into what stays and a stratified `fraction`, both with every class.

    Raises:
        UserError: a class would be left without an image; `mend` ends its message.
    """
    counts = np.bincount(labels[rows], minlength=len(classes))
    total = max(len(classes), round(fraction * len(rows)))
    rare = counts.argmin()
    if counts[rare] < 2 or total > len(rows) or np.any(_quotas(counts, total) >= counts):
        raise UserError(
            f"splitting off {fraction:g} of {len(rows)} training images leaves a class without an image "
            f"(class {classes[rare]!r} has {counts[rare]}): {mend}"
        )
    drawn = draw_stratified(rows, labels, total, seed)
    return np.setdiff1d(rows, drawn), drawn
