"""Which labels are known: training samples without one, and labels that are wrong on purpose.

A training sample whose label is unknown carries none: `UNKNOWN` stands in its place, so nothing can read it by mistake.
In a step of a student the teacher's answer fills the gap. Validation and test samples keep their real labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean
from distillab.data.checks import is_number, require
from distillab.data.splits import draw_stratified

UNKNOWN = -1
SOURCES = ("all", "teacher")


def check_source(source: Any) -> str:
    """`data.labels`. Raises UserError where it is none of `SOURCES`."""
    if source not in SOURCES:
        raise UserError(f"data.labels must be one of {', '.join(SOURCES)}, not {source!r}: data.labels=all")
    return source


def check_share(share: Any, path: str = "data.labelled") -> float:
    """A share of the training samples. Raises UserError where it is no number above 0 and up to 1."""
    allowed = is_number(share, 0, 1) and share > 0
    require(path, share, allowed, what="a share of the training samples, above 0 and up to 1", instead=0.1)
    return float(share)


def known(rows: np.ndarray, labels: np.ndarray, share: float, seed: tuple[int, ...]) -> np.ndarray:
    """Those of the training samples `rows` whose label is known: a stratified share, one of each class at least.

    A smaller share of the same rows is part of a larger one.
    """
    if share == 1:
        return rows
    total = max(len(np.unique(labels[rows])), round(share * len(rows)))
    return draw_stratified(rows, labels, total, seed)


def hide(labels: np.ndarray, rows: np.ndarray) -> Tensor:
    """Labels (M,), with `UNKNOWN` in the rows that training may not see."""
    told = torch.from_numpy(labels)
    return told.index_fill(0, torch.from_numpy(rows), UNKNOWN) if len(rows) else told


def numbers(classes: Sequence[str | int] | str | int | None, names: Sequence[str], path: str) -> list[int]:
    """The numbers of classes that are given by name or by number, ascending; [] where none are given.

    Raises:
        UserError: one that does not exist, or all of them, so that no other is left.
    """
    if classes is None or classes == "":
        return []
    found = set()
    for entry in [classes] if isinstance(classes, str | int) else classes:
        if str(entry) in names:
            found.add(list(names).index(str(entry)))
        elif isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(names):
            found.add(entry)
        else:
            shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            raise UserError(
                f'{path}: there is no class "{entry}"{did_you_mean(str(entry), list(names))} '
                f"(allowed: {shown}, or numbers from 0 to {len(names) - 1}): {path}=[{names[0]}]"
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
    """The labels, and the class of the teacher's largest logit where they are unknown.

    Args:
        labels: (N,) int64 with `UNKNOWN`s, or (N, classes) float32 with rows of NaN: a mixed sample of which any part is
            unknown is answered for as a whole.
        logits: (N, classes), of the teacher for these views.
    """
    answer = logits.argmax(1)
    if labels.ndim == 1:
        return torch.where(labels == UNKNOWN, answer, labels)
    return torch.where(labels.isnan(), F.one_hot(answer, labels.shape[1]).to(labels.dtype), labels)
