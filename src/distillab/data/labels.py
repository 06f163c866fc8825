"""Training samples without a label (`UNKNOWN` stands in its place), and labels that are wrong on purpose."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError, first_few
from distillab.core.instantiate import did_you_mean
from distillab.data.splits import draw_stratified

UNKNOWN = -1
NEEDED = "one class number for each sample, (N,) int64, is needed"
SHARES = "; shares of the classes, (N, classes), do as well where each row sums to 1"
NOT_LEARNED = "several classes of one sample, or numbers to be predicted, cannot be learned"


def checked(labels: Tensor, classes: int, *, shares: bool = False, look: bool = True) -> Tensor:
    """Labels as a loss takes them: class numbers (N,) int64, or, where `shares` may be, those of each class (N, classes).

    Raises UserError for anything else; without a `look` at the values, for wrong types and shapes alone.
    """
    what, needed = f"labels are {tuple(labels.shape)} {labels.dtype}", NEEDED + (SHARES if shares else "")
    if shares and labels.ndim == 2 and labels.shape[1] == classes and labels.is_floating_point():
        labels = labels.float()
        if look and not ((labels >= 0).all() and ((labels.sum(1) - 1).abs() < 1e-3).all()):
            raise UserError(f"{what} and no shares of {classes} classes: each row must sum to 1; {NOT_LEARNED}")
        return labels
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"{what}, for {classes} classes: {needed}; {NOT_LEARNED}")
    for label in (int(labels.min()), int(labels.max())) if look and len(labels) else ():
        if not 0 <= label < classes:
            raise UserError(f"labels must be class numbers from 0 to {classes - 1}, got {label}")
    return labels.long()


def known(rows: np.ndarray, labels: np.ndarray, share: float, seed: tuple[int, ...]) -> np.ndarray:
    """A stratified share of `rows`, one of each class at least; a smaller share is part of a larger one."""
    if share == 1:
        return rows
    total = max(len(np.unique(labels[rows])), round(share * len(rows)))
    return draw_stratified(rows, labels, total, seed)


def numbers(classes: Sequence[str | int] | str | int | None, names: Sequence[str]) -> list[int]:
    """The numbers of classes that are given by name or by number, ascending; [] where none are given.

    Raises UserError for a class that does not exist, and for all of them, so that no other is left.
    """
    if classes is None or classes == "":
        return []
    path, found, names = "teacher.corrupt_classes", set(), list(names)
    for entry in [classes] if isinstance(classes, str | int) else classes:
        if str(entry) in names:
            found.add(names.index(str(entry)))
        elif isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(names):
            found.add(entry)
        else:
            raise UserError(
                f'{path}: there is no class "{entry}"{did_you_mean(str(entry), names)} '
                f"(allowed: {first_few(names, 10)}, or numbers from 0 to {len(names) - 1}): {path}=[{names[0]}]"
            )
    if len(found) == len(names):
        raise UserError(f"{path} names all {len(names)} classes and leaves no other: {path}=[{names[0]}]")
    return sorted(found)


def wrong(
    labels: np.ndarray, rows: np.ndarray, bad: Sequence[int], classes: int, *, seed: tuple[int, ...]
) -> np.ndarray:
    """Labels (M,) in which each of `rows` that is of a `bad` class has one of the other classes, uniformly drawn."""
    changed = rows[np.isin(labels[rows], bad)]
    others = np.setdiff1d(np.arange(classes), bad)
    labels = labels.copy()
    labels[changed] = np.random.RandomState(seed).choice(others, len(changed))
    return labels


def distributions(labels: Tensor, classes: int) -> Tensor:
    """Labels (N,) as distributions (N, classes) float32; NaN where unknown, and so in everything mixed with it."""
    unknown = (labels == UNKNOWN)[:, None]
    return F.one_hot(labels.clamp(min=0), classes).float().masked_fill(unknown, torch.nan)


def pseudo_label(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels, and the class of the teacher's largest logit, (N, classes) for these views, where they are unknown.

    They are (N,) int64 with `UNKNOWN`s, or (N, classes) float32 with rows of NaN for mixed samples.
    """
    answer = logits.argmax(1)
    if labels.ndim == 1:
        return torch.where(labels == UNKNOWN, answer, labels)
    return torch.where(labels.isnan(), F.one_hot(answer, labels.shape[1]).to(labels.dtype), labels)
