"""Where image data comes from: the targets of conf/data."""

import hashlib
import math
import os
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL
import torch
from PIL import Image
from torchvision import datasets

from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.data.collection import digest
from distillab.data.images.datamodule import ImageCollection, ImageData, evenly_spaced
from distillab.data.images.decode import (
    GREY_MODES,
    UNOPENED,
    DecodedStore,
    first_size,
    fit_square,
    hash_files,
    in_threads,
    read_image,
)
from distillab.data.images.downloaded import Downloaded, Part
from distillab.data.images.folder import Listing
from distillab.data.splits import TEST_FRACTION, TEST_SEED, carve

DECODER = "2"  # change it where decoding gives other pixels
SAMPLED = 500  # files whose content names a data set


class Digits(ImageData):
    """scikit-learn's 1,797 handwritten digits, 8×8 grey; a fifth is the test (UCI optdigits)."""

    expected_classes = 10

    def _collect(self) -> ImageCollection:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
        labels, classes = digits.target.astype(np.int64), tuple(map(str, digits.target_names))
        how = {"seed": (TEST_SEED,), "mend": "reinstall scikit-learn"}
        splits = carve(np.arange(len(labels)), labels, classes, TEST_FRACTION, **how)
        pixels = {"channels": 1, "image_size": 8, "images": torch.from_numpy(images)}
        return ImageCollection(digest(images), classes, labels, *splits, **pixels)


class CIFAR10(Downloaded):
    """CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32×32."""

    expected_classes = 10
    source: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR10

    def _files(self) -> list[Path]:
        folder, listed = self.root.resolve() / self.source.base_folder, self.source.train_list + self.source.test_list
        return [folder / name for name in (self.source.meta["filename"], *(name for name, _ in listed))]

    def _part(self, train: bool) -> Part:
        with self.downloading():
            found = self.source(self.root, train=train, download=True)  # only where files are absent
        return Part(found.data.transpose(0, 3, 1, 2), np.array(found.targets), tuple(found.classes))

    def _mend(self) -> str:
        return f"unpack {self.source.url} there, or change data.root=…, or take data=folder data.root=…"


class CIFAR100(CIFAR10):
    """CIFAR-100 (Krizhevsky, 2009): as CIFAR-10, with 100 classes."""

    expected_classes = 100
    source = datasets.CIFAR100


class SVHN(Downloaded):
    """SVHN (Netzer et al., 2011): 73,257 training and 26,032 test digits of house numbers, 32×32."""

    expected_classes = 10
    source: ClassVar[type[datasets.SVHN]] = datasets.SVHN

    def _files(self) -> list[Path]:
        return [self.root.resolve() / self.source.split_list[split][1] for split in ("train", "test")]

    def _part(self, train: bool) -> Part:
        with self.downloading():
            found = self.source(self.root, split="train" if train else "test", download=True)
        return Part(found.data, found.labels, tuple("0123456789"))

    def _mend(self) -> str:
        addresses = " and ".join(self.source.split_list[split][0] for split in ("train", "test"))
        return f"put {addresses} there, or change data.root=…"


class Folder(ImageData):
    """Image files, one folder per class: decoded once where they fit the memory budget, else read by workers.

    conf/data/folder.yaml says what each argument is for. Raises UserError in `prepare` where nothing usable lies in
    `root`, an image is broken or of another size, or the decoded images cannot be written.
    """

    reads_files = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        image_size: int | None = None,
        resize: int | None = None,
        memory_budget: float = 4.0,
        workers: int = 2,
        views_per_decode: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.root, self.image_size, self.resize = Path(root).expanduser(), image_size, resize or image_size
        self.memory_budget = memory_budget
        Range(1, whole=True, null=True).check(image_size, "data.image_size", 32)
        self.workers = Range(0, whole=True).check(workers, "data.workers", 2)
        self.views_per_decode = Range(1, whole=True).check(views_per_decode, "data.views_per_decode", 4)
        if self.cycle is not None and self.cycle % views_per_decode:
            found = f"data.views={self.cycle} is no multiple of data.views_per_decode={views_per_decode}"
            raise UserError(f"{found}: data.views={2 * views_per_decode}, or data.views=null")
        if resize is not None and (image_size is None or resize < image_size):
            raise UserError(f"data.resize={resize} needs a data.image_size that is no larger: data.resize=null")
        if self.augment.resized_crop and image_size is None:
            raise UserError("data.augment.resized_crop needs a size to crop to: data.image_size=224")

    @cached_property
    def _listing(self) -> Listing:
        return Listing.of(self.root)

    @property
    def expected_classes(self) -> int:
        """The number of class folders."""
        return len(self._listing.folders)

    def _collect(self) -> ImageCollection:
        listing, store, images = self._listing, DecodedStore(self.cache_dir), None
        for line in listing.told(bool(self.validation), self.samples):
            rank_zero_print(line)
        # The place belongs to the listing: times are coarse, and another folder may look the same from outside.
        key = listing.hash(*listing.times, self.root.resolve(), DECODER)
        # A resized crop needs the whole image, not the decoded square.
        budget = 0.0 if self.augment.resized_crop else self.memory_budget
        with store.lock():
            note = store.recall(key, "content", "channels", "size", "sample") or self._look(listing.files)
            width, height = note["size"]
            if self.image_size is None and width != height:
                needed = f"square images are needed: data.image_size={min(width, height)}"
                raise UserError(f"{self.root} has an image of {width}x{height} pixels; {needed}")
            size = self.image_size or width
            shape = (len(listing.files), note["channels"], size, size)
            if math.prod(shape) <= budget * 2**30:
                content = note["content"] = note["content"] or hash_files(listing.files)
                images = self._decoded(store, listing.files, content, shape)
            else:
                content = listing.hash()  # to hash gigabytes at every start would take minutes
            store.note(key, note)
        content = digest(f"{content} {None if self.resize == self.image_size else self.resize} {DECODER}")
        splits, about = listing.splits(), {"channels": note["channels"], "image_size": size}
        about["dataset"] = listing.hash(note["sample"])  # the same whether images are decoded or stay in files
        if images is not None:
            if self.views_per_decode > 1:
                mend = "data.views_per_decode=1, or data.memory_budget=0 to read the files for every view"
                raise UserError(f"data={self.name} is decoded once, into memory: {mend}")
            return ImageCollection(content, *splits, **about, images=torch.from_numpy(images))
        versions = PIL.__version__, version("torchvision")
        about |= {
            "files_stamp": listing.hash(*listing.times, *versions),
            "decoder": "Pillow {}, torchvision {}".format(*versions),
        }
        return ImageCollection(content, *splits, **about, files=listing.files)

    def _decoded(self, store: DecodedStore, files: list[str], content: str, shape: tuple[int, ...]) -> np.ndarray:
        """The decoded images out of the store, put there first if they are not."""
        key = f"{content}-{hashlib.blake2b(f'{shape} {self.resize} {DECODER}'.encode(), digest_size=4).hexdigest()}"

        def decode(path: str) -> np.ndarray:
            return fit_square(read_image(path, shape[1]), path, shape[2], self.resize)

        images = store.load(key, shape)
        return store.keep(key, in_threads(files, decode), shape) if images is None else images

    @staticmethod
    def _look(files: list[str]) -> dict[str, Any]:
        """Channels, the size of the first readable image, and the hash of some files; where all are grey, so is the data."""

        def is_grey(path: str) -> bool:
            try:
                with Image.open(path) as image:
                    return image.mode in GREY_MODES
            except UNOPENED:
                return True  # decoding will name it

        grey = all(is_grey(path) for path in files)  # stops at the first coloured one
        sample = hash_files([files[row] for row in evenly_spaced(np.arange(len(files)), SAMPLED)])
        return {"content": None, "channels": 1 if grey else 3, "size": first_size(files), "sample": sample}
