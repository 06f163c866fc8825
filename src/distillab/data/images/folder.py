"""Folders of images: which folder is which split, which folders are classes, and what is read of them."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from distillab.core.errors import UserError, first_few, printable
from distillab.data.collection import digest
from distillab.data.splits import TEST_FRACTION, TEST_SEED, carve

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
SPELLINGS = {"train": ("train", "training"), "validation": ("val", "valid", "validation", "dev")}
SPELLINGS |= {"test": ("test", "testing")}
UNCLEAR = ("eval", "evaluation")  # some mean the validation by it, some the test
MEND = "or change data.root=…"


@dataclass
class Listing:
    """The image files of a folder, in their splits and classes."""

    root: Path
    splits_of: Mapping[str, str]  # its folder by split, as the disk spells it; empty: the class folders lie in `root`
    folders: tuple[str, ...] = ()  # those of the classes, in label order
    files: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # train, validation, test: one per file
    names: list[str] = field(default_factory=list)  # path inside the split's folder and size, one per file
    times: list[int] = field(default_factory=list)
    unused: dict[str, list[str]] = field(default_factory=dict)  # what is not read, by the reason

    @classmethod
    def of(cls, root: Path) -> Self:
        """List a folder with train/<class>/… or with the class folders themselves. Raises UserError."""
        if not root.is_dir():
            raise UserError(f"{root} is no folder; one with a folder of images per class is needed: data.root=…")
        try:
            listing = cls(root, {})
            folders, loose = listing._entries(root)
            listing.splits_of = split_folders(root, [entry.name for entry in folders])
            if listing.splits_of:
                listing._leave_loose(loose)
                used = listing.splits_of.values()
                listing._leave("other folders", *(entry.path for entry in folders if entry.name not in used))
            else:
                listing.unused.clear()  # this folder is the one to be read
            listing._add_all()
        except OSError as error:
            mend = f"mend its permissions, {MEND}"
            raise UserError(f"{error.filename} cannot be listed ({error.strerror}): {mend}") from error
        return listing

    def _add_all(self) -> None:
        """Add every split; all class folders that are wrong are told at once."""
        lacking, empty = [], []
        for split, name in (self.splits_of or {"train": ""}).items():
            place = self.root / name
            classes, loose = self._entries(place)
            images = self._leave_loose(loose)
            if split == "train":
                self.folders = tuple(entry.name for entry in classes)
                _check_classes(place, self.folders, images)
            elif not classes and images:
                flat = f"{_many(images, 'image')} and no class folders, so their labels are unknown"
                raise UserError(f"{place} has {flat}: sort them into {place}/<class>/, move it away, {MEND}")
            elif not classes:
                self._leave("empty folders", str(place))
            lacking += [entry.path for entry in classes if entry.name not in self.folders]
            known = [entry for entry in classes if entry.name in self.folders]
            empty += [entry.path for entry in known if not self._add(entry, split, place)]
        if lacking:
            many = _many(lacking, "class folder")
            raise UserError(f"{many}: the training images have no such class; remove what is too much, {MEND}")
        if empty:
            raise UserError(
                f"{_many(empty, 'class folder')}: no images ({' '.join(EXTENSIONS)}); fill or remove, {MEND}"
            )

    def _add(self, folder: os.DirEntry[str], split: str, place: Path) -> int:
        """Add the images of one class folder; returns how many there are."""
        status = os.stat(place)
        above = {(status.st_dev, status.st_ino): str(place)}
        found = sorted(self._images(folder.path, above), key=lambda entry: entry.path)
        for entry in found:
            status = entry.stat()
            self.files.append(entry.path)
            self.names.append(f"{self.part(split)}{entry.path[len(str(place)) :]}:{status.st_size}")
            self.times.append(status.st_mtime_ns)
        self.labels += [self.folders.index(folder.name)] * len(found)
        self.parts += [self.part(split)] * len(found)
        return len(found)

    def part(self, split: str) -> str:
        """What a split's folder is used for: validation images without a test are the test."""
        return "test" if split == "validation" and "test" not in self.splits_of else split

    def _images(self, folder: str, above: Mapping[tuple[int, int], str]) -> Iterator[os.DirEntry[str]]:
        """The image files in a folder and in those inside it; `above` are the folders that lead to it."""
        status = os.stat(folder)
        own = (status.st_dev, status.st_ino)
        if own in above:
            raise UserError(f"{folder} leads back to {above[own]} by a link: remove it, {MEND}")
        folders, files = self._entries(folder)
        for entry in folders:
            yield from self._images(entry.path, {**above, own: folder})
        for entry in files:
            if entry.name.lower().endswith(EXTENSIONS):
                yield entry
            else:
                self._leave(_ending(entry.name), entry.path)

    def _leave_loose(self, files: list[os.DirEntry[str]]) -> list[str]:
        """Note the files that lie in no class folder; returns the images among them."""
        images = [entry.path for entry in files if entry.name.lower().endswith(EXTENSIONS)]
        self._leave("images outside class folders", *images)
        for entry in files:
            if not entry.name.lower().endswith(EXTENSIONS):
                self._leave(_ending(entry.name), entry.path)
        return images

    def _entries(self, folder: str | Path) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
        """The folders and the regular files in a folder, links to them too, in the order of their names."""
        kinds: dict[str, list[os.DirEntry[str]]] = {"folder": [], "file": []}
        with os.scandir(folder) as found:
            for entry in sorted(found, key=lambda entry: entry.name):
                kind = _kind(entry)
                if entry.name.startswith("." if kind == "file" else (".", "__")):
                    self._leave("hidden", entry.path)
                elif kind in kinds:
                    kinds[kind].append(entry)
                else:  # to open a pipe would wait for ever
                    self._leave("pipes, sockets, devices and broken links", entry.path)
        return kinds["folder"], kinds["file"]

    def _leave(self, reason: str, *paths: str) -> None:
        if paths:
            self.unused.setdefault(reason, []).extend(paths)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, as they can be shown."""
        return tuple(map(printable, self.folders))

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

    def told(self, validates: bool, samples: int | None = None) -> list[str]:
        """Which folder is what, in one line, and in another what is not read, where there is anything.

        `validates` is False where the run takes no validation images; it trains on `samples`, or on all that are left.
        """
        uses = {"train": "trains", "validation": "validates", "test": "is the test"}
        if not validates:
            uses["validation"] = "is not used (data.validation=0)"
        told = []
        for split, name in (self.splits_of or {"train": ""}).items():
            part = self.part(split)
            what = f"{name}/ {uses[part]}" if name else f"class folders {first_few(self.folders)}"
            if part in self.parts:
                many = self.parts.count(part)
                told.append(f"{what} ({many:,} image{'s' * (many != 1)})")
        if "test" not in self.parts:
            told.append(f"{TEST_FRACTION:.0%} of them are the test")
        told += [f"data.samples={samples:,} of them train"] if samples is not None else []
        deep = sum(name.count("/") > 2 for name in self.names)
        told += [f"{deep:,} images lie in folders inside class folders"] if deep else []
        lines = [f"{self.root}, {len(self.folders)} classes: {', '.join(told)}"]
        if self.unused:
            start = len(str(self.root)) + 1
            left = [f"{k}: {len(v):,} ({first_few([path[start:] for path in v])})" for k, v in self.unused.items()]
            lines.append(f"{self.root}, not used: {'; '.join(left)}")
        return [printable(line) for line in lines]


def split_folders(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Which of the folders in `root` is which split; {} where they are the classes. Raises UserError where it is unclear."""
    found = {split: [n for n in names if n.casefold() in known] for split, known in SPELLINGS.items()}
    for split, several in found.items():
        if len(several) > 1:
            raise UserError(f"{root} has {len(several)} folders for {split} ({', '.join(several)}): keep one, {MEND}")
    unclear = [name for name in names if name.casefold() in UNCLEAR]
    if not found["train"]:
        if others := [*found["validation"], *found["test"], *unclear]:
            where = f"put the training images into {root}/train/<class>/"
            mend = f"{where}; where {others[0]} is a class, move all class folders into {root}/train"
            raise UserError(f"{root} has {' and '.join(others)} and no train folder: {mend}")
        return {}
    if unclear:
        mend = f"rename it val or test, move it away, {MEND}"
        raise UserError(f"{root / unclear[0]} may be the validation or the test: {mend}")
    return {split: name for split, (name, *_) in ((s, n) for s, n in found.items() if n)}


def _check_classes(train: Path, classes: Sequence[str], images: Sequence[str]) -> None:
    if not classes and images:
        mend = f"sort them into {train}/<class>/; where {train.name} is a class, move all class folders into a train folder"
        raise UserError(f"{train} has {_many(images, 'image')} and no class folders: {mend}")
    if len(classes) < 2:
        needed = f"at least two, each with its images, are needed ({MEND.removeprefix('or ')})"
        raise UserError(f"{train} has {len(classes)} class folders; {needed}")


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return "other"  # a link to itself


def _ending(name: str) -> str:
    ending = os.path.splitext(name)[1].lower()
    return f"{ending} files" if ending else "files without an ending"


def _many(paths: Sequence[str], what: str) -> str:
    """`class folder /a/b`, or `5 class folders (/a/b, /a/c, /a/d, …)`."""
    return f"{what} {paths[0]}" if len(paths) == 1 else f"{len(paths)} {what}s ({first_few(paths)})"
