"""Data sets that torchvision downloads: unpacked once into the store, and mapped from there."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision.datasets import VisionDataset

from distillab.core.errors import UserError, reason
from distillab.data.collection import digest
from distillab.data.images.datamodule import ImageCollection, ImageData
from distillab.data.images.decode import DecodedStore


@dataclass(frozen=True)
class Part:
    """The training or the test images of a data set."""

    images: np.ndarray  # (N, C, H, W) uint8
    labels: np.ndarray  # (N,) whole numbers
    classes: tuple[str, ...]


class Downloaded(ImageData):
    """A data set that torchvision knows. `root` holds its files, which are downloaded where they are absent.

    A subclass defines `_files`, `_part` and, where there is more to say, `_mend`. Raises UserError in `prepare` where the
    files are absent and cannot be downloaded.
    """

    source: ClassVar[type[VisionDataset]]

    def __init__(self, root: str | os.PathLike[str], **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()

    def _files(self) -> list[Path]:
        """Where the files may lie."""
        raise NotImplementedError

    def _part(self, train: bool) -> Part:
        """Read the training or the test images out of the files; torchvision downloads them inside `downloading`."""
        raise NotImplementedError

    def _mend(self) -> str:
        """What gets the data where they cannot be downloaded, for the message."""
        raise NotImplementedError

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
        """Read the files, and keep what they hold for the next start."""
        parts = [self._part(train) for train in (True, False)]
        images = np.ascontiguousarray(np.concatenate([part.images for part in parts]))
        note = {
            "content": digest(images),
            "shape": images.shape,
            "labels": [int(label) for part in parts for label in part.labels],
            "classes": parts[0].classes,
            "train": len(parts[0].images),
        }
        mapped = store.keep(note["content"], images, images.shape)
        store.note(self._listing(), note)
        return note, mapped

    def _listing(self) -> str:
        """Hash of place, size and time of the files, those that are absent too."""
        seen = []
        for file in self._files():
            status = file.stat() if file.exists() else None
            seen.append(f"{file}:{status and (status.st_size, status.st_mtime_ns)}")
        return digest("\n".join(seen))

    @contextmanager
    def downloading(self) -> Iterator[None]:
        """Let torchvision download inside, within a time; raises UserError where it cannot."""
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(20)  # a network that swallows packets must not hang the run
        try:
            yield
        except (OSError, RuntimeError) as error:
            lacks = f"no {self.source.__name__} in {self.root} and no download ({reason(error)})"
            raise UserError(f"{lacks}: {self._mend()}, or data=digits") from error
        finally:
            socket.setdefaulttimeout(timeout)
