"""Stratified seeded splits; the frozen streams of RandomState keep a split the same in every numpy."""

import numpy as np

from distillab.core.errors import UserError
from distillab.data.collection import Collection

TEST_FRACTION = 0.2
TEST_SEED = 20150309  # fixed: the test samples stay the same in every study


def _quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """Share `total` among classes: one each, the rest in proportion, by largest remainders."""
    exact = (counts - 1) * (total - len(counts)) / max(1, counts.sum() - len(counts))
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    missing = total - len(counts) - quotas.sum()
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return quotas + 1


def draw_stratified(rows: np.ndarray, labels: np.ndarray, total: int, seed: tuple[int, ...]) -> np.ndarray:
    """Draw `total` of `rows` (N,), places in `labels`, ascending: every class in proportion and at least once.

    `total` goes from the number of classes to N, each number of the seed from 0 to 2**32 - 1.
    """
    generator = np.random.RandomState(seed)
    present, counts = np.unique(labels[rows], return_counts=True)
    each = zip(present, _quotas(counts, total), strict=True)
    drawn = [generator.permutation(rows[labels[rows] == label])[:quota] for label, quota in each]
    return np.sort(np.concatenate(drawn))


def limit(rows: np.ndarray, data: Collection, samples: int | None, *, seed: tuple[int, ...], name: str) -> np.ndarray:
    """Draw `samples` of the training samples `rows` of data `name`; None keeps all. UserError where there are fewer."""
    if samples is None:
        return rows
    classes = len(data.classes)
    if not classes <= samples <= len(rows):
        nearest = max(classes, min(samples, len(rows)))
        least = f"{classes} (one per class)" if classes > 1 else "1"
        raise UserError(
            f"data.samples={samples} is not between {least} and {len(rows)} "
            f"(all training samples of {name}): data.samples={nearest}, or data.samples=null"
        )
    return draw_stratified(rows, data.labels, samples, seed)


def carve(
    rows: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], fraction: float, *, seed: tuple[int, ...], mend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split `rows` into what stays and a stratified `fraction`, both with every class.

    Raises UserError where a class would be left without a sample; `mend` ends its message.
    """
    counts = np.bincount(labels[rows], minlength=len(classes))
    total = max(len(classes), round(fraction * len(rows)))
    rare = counts.argmin()
    if counts[rare] < 2 or total > len(rows) or np.any(_quotas(counts, total) >= counts):
        raise UserError(
            f"splitting off {fraction:g} of {len(rows)} training samples leaves a class without one "
            f"(class {classes[rare]!r} has {counts[rare]}): {mend}"
        )
    drawn = draw_stratified(rows, labels, total, seed)
    return np.setdiff1d(rows, drawn), drawn


def divide(collection: Collection, fraction: float, seed: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The rows of each split, of which `all` may be trained on; 0 leaves no validation. Raises UserError as `carve`."""
    train, validation = collection.train, collection.validation
    if not fraction:
        validation = np.empty(0, dtype=np.int64)
    elif validation is None:
        mend = "take fewer with data.validation=…, add samples, or protocol=paper, which takes none"
        train, validation = carve(train, collection.labels, collection.classes, fraction, seed=seed, mend=mend)
    return {"all": train, "validation": validation, "test": collection.test}
