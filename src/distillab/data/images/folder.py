"""Folders of images, one folder per class, with or without a test folder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from distillab.core.errors import UserError
from distillab.data.collection import digest
from distillab.data.splits import TEST_FRACTION, TEST_SEED, carve

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


@dataclass
class Listing:
    """The image files of a folder, in their splits and classes."""

    classes: tuple[str, ...]
    files: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # train, validation, test: one per file
    names: list[str] = field(default_factory=list)  # path inside the class folder and size, one per file
    times: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path) -> Self:
        """List a folder with train/<class>/… or with the class folders themselves. Raises UserError."""
        if not root.is_dir():
            raise UserError(f"{root} is no folder; one with a folder of images per class is needed: data.root=…")
        try:
            train = root / "train" if (root / "train").is_dir() else root
            listing = cls(tuple(_subfolders(train)))
            if len(listing.classes) < 2:
                needed = "at least two, each with its images, are needed: data.root=…"
                raise UserError(f"{train} has {len(listing.classes)} class folders; {needed}")
            listing._add(train, "train")
            test = (root / "test").is_dir()
            for name, part in (("val", "validation" if test else "test"), ("test", "test")):
                if train != root and (root / name).is_dir():
                    listing._add(root / name, part)
        except OSError as error:
            mend = "mend its permissions, or change data.root=…"
            raise UserError(f"{error.filename} cannot be listed ({error.strerror}): {mend}") from error
        return listing

    def _add(self, folder: Path, part: str) -> None:
        """Add a folder of class folders."""
        for name in _subfolders(folder):
            if name not in self.classes:
                lacks = "is a class that the training images lack: remove it, or change data.root=…"
                raise UserError(f"{folder / name} {lacks}")
            found = sorted(_images(folder / name), key=lambda entry: entry.path)
            if not found:
                lacks = f"has no images ({' '.join(EXTENSIONS)}): fill or remove it, or change data.root=…"
                raise UserError(f"class folder {folder / name} {lacks}")
            for entry in found:
                status = entry.stat()
                self.files.append(entry.path)
                self.names.append(f"{part}{entry.path[len(str(folder)) :]}:{status.st_size}")
                self.times.append(status.st_mtime_ns)
            self.labels += [self.classes.index(name)] * len(found)
            self.parts += [part] * len(found)

    def splits(self) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Classes, labels, and the rows for training, test and validation, as a `Collection` takes them."""
        labels, parts = np.array(self.labels, dtype=np.int64), np.array(self.parts)
        train, validation, test = (np.flatnonzero(parts == part) for part in ("train", "validation", "test"))
        if not len(test):
            mend = "add images, or a test folder beside train/ in data.root=…"
            train, test = carve(train, labels, self.classes, TEST_FRACTION, seed=(TEST_SEED,), mend=mend)
        return self.classes, labels, train, test, validation if len(validation) else None

    def hash(self, *more: object) -> str:
        """Hash names and sizes, and whatever else is given."""
        return digest("\n".join([*self.names, *map(str, more)]))


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith((".", "__")))


def _images(folder: str | Path, above: tuple[str, ...] = ()) -> Iterator[os.DirEntry[str]]:
    if (place := os.path.realpath(folder)) in above:
        raise UserError(f"{folder} is a link to a folder that it lies in: remove it, or change data.root=…")
    with os.scandir(folder) as entries:
        for entry in (entry for entry in entries if not entry.name.startswith(".")):
            if entry.is_dir():
                yield from _images(entry.path, (*above, place))
            elif entry.name.lower().endswith(EXTENSIONS):
                yield entry
