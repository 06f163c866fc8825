"""Folders of images, one folder per class, with or without a test folder."""

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

from distillab.core.errors import UserError
from distillab.data.collection import digest
from distillab.data.images.collection import ImageCollection
from distillab.data.images.decode import GREY_MODES, DecodedStore, fit_square, hash_files, in_threads, read_image
from distillab.data.splits import TEST_FRACTION, TEST_SEED, carve

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
DECODER = "1"  # change it where decoding gives other pixels


@dataclass
class _Listing:
    classes: tuple[str, ...]
    files: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # train, validation, test: one per file
    names: list[str] = field(default_factory=list)  # path inside the class folder and size, one per file
    times: list[int] = field(default_factory=list)

    def add(self, folder: Path, part: str) -> None:
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


def _images(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in (entry for entry in entries if not entry.name.startswith(".")):
            if entry.is_dir():
                yield from _images(entry.path)
            elif entry.name.lower().endswith(EXTENSIONS):
                yield entry


def _list(root: str | os.PathLike[str]) -> _Listing:
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f"{root} is no folder; one with a folder of images per class is needed: data.root=…")
    try:
        train = root / "train" if (root / "train").is_dir() else root
        listing = _Listing(tuple(_subfolders(train)))
        if len(listing.classes) < 2:
            needed = "at least two, each with its images, are needed: data.root=…"
            raise UserError(f"{train} has {len(listing.classes)} class folders; {needed}")
        listing.add(train, "train")
        test = (root / "test").is_dir()
        for name, part in (("val", "validation" if test else "test"), ("test", "test")):
            if train != root and (root / name).is_dir():
                listing.add(root / name, part)
    except OSError as error:
        mend = "mend its permissions, or change data.root=…"
        raise UserError(f"{error.filename} cannot be listed ({error.strerror}): {mend}") from error
    return listing


def collect(
    root: str | os.PathLike[str], image_size: int | None, resize: int | None, *, memory_budget: float, cache_dir: str
) -> ImageCollection:
    """Find the images of a folder and decode them, once, where they fit the memory budget.

    Args: see `distillab.data.images.sources.Folder`; `resize` is None where `image_size` is.

    Raises:
        UserError: nothing usable lies there, an image is broken or of another size, or the cache cannot be written.
    """
    listing, images = _list(root), None
    # The place belongs to the listing: times are coarse, and another folder may look the same from outside.
    key = listing.hash(*listing.times, Path(root).expanduser().resolve())
    store = DecodedStore(cache_dir)
    with store.lock():
        note = store.recall(key, "content", "channels", "size") or _look(listing)
        size = image_size or _side(listing.files[0], *note["size"])
        shape = (len(listing.files), note["channels"], size, size)
        if math.prod(shape) <= memory_budget * 2**30:
            content = note["content"] = note["content"] or hash_files(listing.files)
            images = _decoded(store, listing.files, content, shape, resize)
        else:
            content = listing.hash()  # to hash gigabytes at every start would take minutes
        store.note(key, note)
    if resize != image_size or DECODER != "1":  # else no trace, so that networks keep their keys
        content = digest(f"{content} {resize} {DECODER}")
    splits, pixels = listing.splits(), {"channels": note["channels"], "image_size": size}
    if images is not None:
        return ImageCollection(content, *splits, **pixels, images=torch.from_numpy(images))
    stamp = listing.hash(*listing.times, PIL.__version__, version("torchvision"))
    return ImageCollection(content, *splits, **pixels, files=listing.files, files_stamp=stamp)


def _side(path: str, width: int, height: int) -> int:
    if width != height:
        mend = f"data.image_size={min(width, height)}"
        raise UserError(f"{path} has {width}x{height} pixels; square images are needed: {mend}")
    return width


def _decoded(
    store: DecodedStore, files: list[str], content: str, shape: tuple[int, ...], resize: int | None
) -> np.ndarray:
    """The decoded images out of the store, put there first if they are not."""
    key = f"{content}-{hashlib.blake2b(f'{shape} {resize} {DECODER}'.encode(), digest_size=4).hexdigest()}"

    def decode(path: str) -> np.ndarray:
        return fit_square(read_image(path, shape[1]), path, shape[2], resize)

    images = store.load(key, shape)
    return store.keep(key, in_threads(files, decode), shape) if images is None else images


def _look(listing: _Listing) -> dict[str, object]:
    """Size and channels from the first image; where it is grey, all must be."""

    def is_grey(path: str) -> bool:
        try:
            with Image.open(path) as image:
                return image.mode in GREY_MODES
        except (OSError, ValueError, SyntaxError):
            return True  # decoding will name it

    grey = all(is_grey(path) for path in listing.files)  # stops at the first coloured one
    return {"content": None, "channels": 1 if grey else 3, "size": read_image(listing.files[0]).size}
