"""Who knows which label: training images without one, and labels that are wrong on purpose.

A training image whose label is unknown carries none: `UNKNOWN` stands in its place, so nothing can read it by mistake.
In a step of a student the teacher's answer fills the gap. Validation and test images keep their real labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean
from distillab.data.splits import draw_stratified

UNKNOWN = -1
SOURCES = ("all", "teacher")


class Labels:
    """What `ImageData` knows of its training labels; the data themselves lie in it."""

    _labels: Tensor  # (M,) int64, the real ones of all images
    _told: Tensor  # (M,) int64, what training is told: UNKNOWN where a label is hidden
    _known: np.ndarray  # rows of the training images whose label is known

    def _hide(self) -> None:
        """Choose the training images whose label is known, and hide the others'."""
        rows = self._rows["train"]
        self._known = known(rows, self._labels.numpy(), self.labelled, (self.split_seed, 2))
        hidden = rows if self.label_source == "teacher" else np.setdiff1d(rows, self._known)
        self._told = self._labels
        if len(hidden):
            self._told = self._labels.clone()
            self._told[torch.from_numpy(hidden)] = UNKNOWN

    def _labels_of(self, split: str) -> Tensor:
        """(M,) int64: what the loaders of a split are told."""
        return self._told if split == "train" else self._labels

    @property
    def hides_labels(self) -> bool:
        """Whether a training image comes without its label, so that a teacher must answer for it."""
        self.prepare()
        return self._told is not self._labels

    @property
    def labelled_images(self) -> int:
        """How many training images come with their label."""
        self.prepare()
        return int((self._told[self._rows["train"]] != UNKNOWN).sum())

    def labelled_only(self, labelled: float | None = None, path: str = "data.labelled") -> Self:
        """The same data for one who learns from real labels alone: without the unlabelled images.

        The labelled ones are repeated until there are as many as before, each copy with an augmentation of its own, so
        an epoch has as many steps as that of a student who learns from all images.

        Args:
            labelled: another share of the images whose label is known; None keeps the data's.
            path: where that share stands in the config.

        Raises:
            UserError: no such share.
        """
        clone = self._clone()
        clone.label_source = "all"
        clone.labelled = self.labelled if labelled is None else check_share(labelled, path)
        clone._hide()
        clone._rows = clone._rows | {"train": np.resize(clone._known, len(clone._rows["train"]))}
        clone.labelled = 1.0
        clone._hide()
        return clone

    def with_wrong_labels(self, classes: Sequence[str | int] | None, path: str = "teacher.corrupt_classes") -> Self:
        """The same data, in which every training image of some classes has the label of one of the others, at random.

        Who learns from it never hears of these classes. Validation and test images keep their labels.

        Args:
            classes: names or numbers; None or none leaves the data as they are.
            path: where they stand in the config.

        Raises:
            UserError: no such class, or no other one.
        """
        if not classes and classes != 0:
            return self
        clone = self._clone()
        bad = numbers(classes, self.info.classes, path)
        labels = wrong(self._labels.numpy(), self._rows["all"], bad, len(self.info.classes), (self.split_seed, 3))
        clone._collection = replace(self._collection, labels=labels)  # so they are in the fingerprint
        clone._labels = torch.from_numpy(labels)
        clone._hide()
        return clone

    def class_names(self, classes: Sequence[str | int] | None, path: str = "teacher.corrupt_classes") -> list[str]:
        """The names of classes that are given by name or by number. Raises UserError as `with_wrong_labels`."""
        if not classes and classes != 0:
            return []
        return [self.info.classes[number] for number in numbers(classes, self.info.classes, path)]


def check_source(source: Any) -> str:
    """`data.labels`. Raises UserError where it is none of `SOURCES`."""
    if source not in SOURCES:
        raise UserError(f"data.labels must be one of {', '.join(SOURCES)}, not {source!r}: data.labels=all")
    return source


def check_share(share: Any, path: str = "data.labelled") -> float:
    """A share of the training images. Raises UserError where it is no number above 0 and up to 1."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f"{path} is a share of the training images, above 0 and up to 1, not {share!r}: {path}=0.1")
    return float(share)


def known(rows: np.ndarray, labels: np.ndarray, share: float, seed: tuple[int, ...]) -> np.ndarray:
    """Those of the training images `rows` whose label is known: a stratified share, one of each class at least.

    A smaller share of the same rows is part of a larger one.
    """
    if share == 1:
        return rows
    total = max(len(np.unique(labels[rows])), round(share * len(rows)))
    return draw_stratified(rows, labels, total, seed)


def numbers(classes: Sequence[str | int] | str | int, names: Sequence[str], path: str) -> list[int]:
    """The numbers of classes that are given by name or by number, ascending.

    Raises:
        UserError: one that does not exist, or all of them, so that no other is left.
    """
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


def wrong(labels: np.ndarray, rows: np.ndarray, bad: Sequence[int], classes: int, seed: tuple[int, ...]) -> np.ndarray:
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
    """The labels, and the teacher's answer where they are unknown.

    Args:
        labels: (N,) int64 with `UNKNOWN`s, or (N, classes) float32 with rows of NaN: a mixed image of which any part is
            unknown is answered for as a whole.
        logits: (N, classes), of the teacher for these views.

    Returns:
        As `labels`, without gaps: the class of the largest logit, or all of the distribution on it.
    """
    answer = logits.argmax(1)
    if labels.ndim == 1:
        return torch.where(labels == UNKNOWN, answer, labels)
    return torch.where(labels.isnan(), F.one_hot(answer, labels.shape[1]).to(labels.dtype), labels)
