"""Where image data comes from: the targets of conf/data."""

import os
import socket
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.data.collection import digest
from distillab.data.images import folder
from distillab.data.images.collection import ImageCollection
from distillab.data.images.datamodule import ImageData
from distillab.data.images.decode import DecodedStore
from distillab.data.splits import TEST_FRACTION, TEST_SEED, carve


class Digits(ImageData):
    """scikit-learn's 1,797 handwritten digits, 8×8 grey; a fifth is the test (UCI optdigits)."""

    def _collect(self) -> ImageCollection:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
        labels, classes = digits.target.astype(np.int64), tuple(map(str, digits.target_names))
        how = {"seed": (TEST_SEED,), "mend": "reinstall scikit-learn"}
        splits = carve(np.arange(len(labels)), labels, classes, TEST_FRACTION, **how)
        pixels = {"channels": 1, "image_size": 8, "images": torch.from_numpy(images)}
        return ImageCollection(digest(images), classes, labels, *splits, **pixels)


class CIFAR10(ImageData):
    """CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32×32, as torchvision reads it.

    The images are unpacked once into the store and mapped from there. `root` holds torchvision's files, which are
    downloaded where they are absent.
    """

    source: ClassVar[str] = "CIFAR10"

    def __init__(self, root: str | os.PathLike[str], **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()

    def _collect(self) -> ImageCollection:
        store = DecodedStore(self.cache_dir)
        with store.lock():
            note = store.recall(self._listing(), "content", "shape", "labels", "classes", "train")
            images = store.load(note["content"], tuple(note["shape"])) if note else None
            if images is None:
                note, images = self._unpack(store)
        labels = np.array(note["labels"], dtype=np.int64)
        splits = np.split(np.arange(len(labels)), [note["train"]])
        pixels = {"channels": images.shape[1], "image_size": images.shape[2], "images": torch.from_numpy(images)}
        return ImageCollection(note["content"], tuple(note["classes"]), labels, *splits, **pixels)

    def _unpack(self, store: DecodedStore) -> tuple[dict[str, Any], np.ndarray]:
        """Read torchvision's files, and keep what they hold for the next start."""
        parts = [self._read(train) for train in (True, False)]
        images = np.ascontiguousarray(np.concatenate([part.data for part in parts]).transpose(0, 3, 1, 2))
        note = {
            "content": digest(images),
            "shape": images.shape,
            "labels": [int(label) for part in parts for label in part.targets],
            "classes": parts[0].classes,
            "train": len(parts[0].data),
        }
        mapped = store.keep(note["content"], images, images.shape)
        store.note(self._listing(), note)
        return note, mapped

    def _listing(self) -> str:
        """Hash of place, size and time of torchvision's files, those that are absent too."""
        from torchvision import datasets

        source = getattr(datasets, self.source)
        folder, seen = self.root.resolve() / source.base_folder, []
        for name in (source.meta["filename"], *(name for name, _ in source.train_list + source.test_list)):
            file = folder / name
            status = file.stat() if file.exists() else None
            seen.append(f"{file}:{status and (status.st_size, status.st_mtime_ns)}")
        return digest("\n".join(seen))

    def _read(self, train: bool) -> Any:
        from torchvision import datasets

        dataset, timeout = getattr(datasets, self.source), socket.getdefaulttimeout()
        socket.setdefaulttimeout(20)  # a network that swallows packets must not hang the run
        try:
            return dataset(self.root, train=train, download=True)  # only where files are absent
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            mend = f"unpack {dataset.url} there, or change data.root=…, or take data=folder data.root=…, or data=digits"
            raise UserError(f"no {self.source} in {self.root} and no download ({reason}): {mend}") from error
        finally:
            socket.setdefaulttimeout(timeout)


class CIFAR100(CIFAR10):
    """CIFAR-100 (Krizhevsky, 2009): as CIFAR-10, with 100 classes."""

    source = "CIFAR100"


class Folder(ImageData):
    """Image files, one folder per class: decoded once where they fit the memory budget, else read by workers.

    Args:
        root: holds train/<class>/… (and test/ or val/, or both), or the class folders themselves.
        image_size: of the square images; None where all files have one size.
        resize: shorter side before the centre crop of evaluation; None is `image_size`.
        memory_budget: GiB of decoded images that are kept; more stays in the files.
        workers: processes that read files during training.
        **common: see `ImageData`.
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
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.root, self.image_size, self.resize = root, image_size, resize or image_size
        self.memory_budget = memory_budget
        Range(1, whole=True, null=True).check(image_size, "data.image_size", 32)
        self.workers = Range(0, whole=True).check(workers, "data.workers", 2)
        if resize is not None and (image_size is None or resize < image_size):
            raise UserError(f"data.resize={resize} needs a data.image_size that is no larger: data.resize=null")
        if self.augment.resized_crop and image_size is None:
            raise UserError("data.augment.resized_crop needs a size to crop to: data.image_size=224")

    def _collect(self) -> ImageCollection:
        # A resized crop needs the whole image, not the decoded square.
        budget = 0.0 if self.augment.resized_crop else self.memory_budget
        return folder.collect(self.root, self.image_size, self.resize, memory_budget=budget, cache_dir=self.cache_dir)
