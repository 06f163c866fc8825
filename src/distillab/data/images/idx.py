"""MNIST and Fashion-MNIST, out of the four IDX files that both consist of."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from torchvision import datasets

from distillab.core.errors import UserError, reason
from distillab.data.images.downloaded import Downloaded, Part

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class MNIST(Downloaded):
    """MNIST (LeCun et al., 1998): 60,000 training and 10,000 test images of handwritten digits, 28×28 grey.

    `root` holds the four IDX files, packed by gzip or not, or torchvision's folder of them.
    """

    expected_classes = 10
    source: ClassVar[type[datasets.MNIST]] = datasets.MNIST
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    package: ClassVar[str | None] = None  # of Debian, and
    package_folder: ClassVar[Path | None] = None  # where it puts the files

    def _places(self) -> list[Path]:
        """The folders that are looked at, in this order."""
        places = [self.root, self.root / self.source.__name__ / "raw", self.package_folder]
        return [place.resolve() for place in places if place is not None]

    def _files(self) -> list[Path]:
        names = [name + packed for name in TRAIN + TEST for packed in ("", ".gz")]
        return [place / name for place in self._places() for name in names]

    def _find(self) -> Path | None:
        """The first folder with all four files."""
        for place in self._places():
            if all(_either(place / name).is_file() for name in TRAIN + TEST):
                return place
        return None

    def _part(self, train: bool) -> Part:
        folder = self._find()
        if folder is None:
            with self.downloading():
                found = self.source(self.root, train=train, download=True)
            return Part(found.data.numpy()[:, None], found.targets.numpy(), self.classes)
        pixels, labels = (_either(folder / name) for name in (TRAIN if train else TEST))
        images, classes = read_idx(pixels, 3), read_idx(labels, 1)
        if len(images) != len(classes):
            raise UserError(
                f"{pixels} has {len(images):,} images and {labels.name} {len(classes):,} labels: they belong to "
                "different sets; replace them, or change data.root=…"
            )
        return Part(images[:, None], classes, self.classes)

    def _mend(self) -> str:
        named = f"name the folder of {TRAIN[0]}[.gz] and its three companions: data.root=…"
        if self.package is None:
            return named
        return f"on Debian, apt install {self.package}, which puts it into {self.package_folder}; else {named}"


class FashionMNIST(MNIST):
    """Fashion-MNIST (arXiv 1708.07747): 60,000 training and 10,000 test images of ten kinds of clothes, 28×28 grey.

    `root` is that of `MNIST`; the files of Debian's package are found without it.
    """

    source = datasets.FashionMNIST
    classes = tuple(datasets.FashionMNIST.classes)
    package = "dataset-fashion-mnist"
    package_folder = Path("/usr/share/dataset-fashion-mnist")


def _either(path: Path) -> Path:
    """The file itself, or the packed one where it is absent."""
    return path if path.is_file() else path.with_name(f"{path.name}.gz")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file, of so many dimensions, in their shape; raises UserError for anything else."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): replace it, or change data.root=…") from error
    first = 4 + 4 * dimensions  # byte of the first number
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < first:
        raise UserError(f"{path} is no IDX file of bytes in {dimensions} dimensions: replace it, or change data.root=…")
    shape = struct.unpack(f">{dimensions}I", content[4:first])
    if len(content) - first != np.prod(shape, dtype=np.int64):
        whole = "×".join(map(str, shape))
        raise UserError(
            f"{path} holds {len(content) - first:,} numbers in place of {whole}: replace it, or change data.root=…"
        )
    return np.frombuffer(content, np.uint8, offset=first).reshape(shape)
