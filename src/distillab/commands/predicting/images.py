"""Predictions of images: read as the training images were, in batches, by one network or by two side by side."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distillab.commands.predicting.networks import Network
from distillab.commands.predicting.rows import Row
from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError, printable, reason
from distillab.core.output import rank_zero_print
from distillab.data.images.decode import fit_square, in_threads, read_image
from distillab.models.model import placed

DIGITS = 6  # of a probability behind the point


class Answer(NamedTuple):
    """The likeliest classes of an image, the first one first, and their probabilities."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Picture(NamedTuple):
    """A file as its network sees it, or why it cannot be read."""

    file: str
    pixels: np.ndarray | None  # (C, H, W) uint8
    refusal: str = ""
    scaled: bool = False  # whether it had another size or colours where the data have one


@dataclass(frozen=True)
class Reader:
    """How the images of a run are read: of `data=folder` as its config says, of others at the size that they have."""

    channels: int
    size: int
    resize: int  # the shorter side, before the centre is cropped
    fixed: bool  # whether all images of the data have one size
    name: str  # of the data

    @classmethod
    def of(cls, network: Network, config: RunConfig) -> "Reader":
        """The reader for a network of a run."""
        channels, size, _ = network.model.example_inputs(1)["pixels"].shape[1:]
        own, resize = config.data.get("image_size"), config.data.get("resize")
        fixed = own != size
        whole = isinstance(resize, int) and not isinstance(resize, bool) and resize >= size
        return cls(channels, size, resize if whole and not fixed else size, fixed, config.name)

    def read(self, file: str) -> Picture:
        """One file; what is wrong with it is told in the picture."""
        try:
            image = read_image(file, self.channels)
            self._check_thin(image, file)
            scaled = self.fixed and image.size != (self.size, self.size)
            return Picture(file, fit_square(image, file, self.size, self.resize), scaled=scaled)
        except UserError as error:
            return Picture(file, None, str(error).removesuffix(", or change data.root=…"))
        except Exception as error:  # a damaged file ends Pillow's decoders in any
            return Picture(file, None, f"{printable(file)} is not a readable image ({reason(error)})")

    def _check_thin(self, image: Image.Image, file: str) -> None:
        """Raise UserError for an image whose longer side would not fit into memory once its shorter one is scaled."""
        longer = max(image.size) * self.resize / min(image.size)
        if longer * self.resize > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
            raise UserError(
                f"{file} has {image.width}x{image.height} pixels, which is too thin for a square of {self.size}"
            )

    def pictures(self, files: Sequence[str]) -> Iterator[Picture]:
        """All files in order, as many at once as the machine has threads for; one line says what is done to their size."""
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # larger ones are refused
        told = False
        for picture in in_threads(list(files), self.read):
            if picture.scaled and not told:
                told = True
                kind = f"{self.size}x{self.size} {'grey' if self.channels == 1 else 'coloured'}"
                how = "images of another size are scaled to it by their shorter side, and the centre is taken"
                rank_zero_print(f"{self.name} has {kind} images: {how}", file=sys.stderr)
            yield picture


@torch.no_grad()
def logits_of(network: Network, pixels: Tensor) -> Tensor:
    """Logits (N, classes) of images (N, C, H, W) uint8, on the CPU."""
    return network.model(pixels=pixels.to(placed(network.model)[0]).float().div_(255)).float().cpu()


def answers(network: Network, pixels: Tensor, top: int) -> list[Answer]:
    """The `top` likeliest classes of each of the images (N, C, H, W) uint8."""
    found = logits_of(network, pixels).softmax(-1).topk(min(top, len(network.classes)))
    return [
        Answer(tuple(network.classes[place] for place in places), tuple(round(value, DIGITS) for value in values))
        for values, places in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    ]


def columns(top: int, *, teacher: bool) -> list[str]:
    """The names of a row's values."""
    further = [f"{name}_{place}" for place in range(2, top + 1) for name in ("class", "probability")]
    beside = ["teacher_class", "teacher_probability", "agree"] if teacher else []
    return ["file", "class", "probability", *further, *beside]


def predicted(
    networks: Sequence[Network], pictures: Iterator[Picture], *, batch_size: int, top: int
) -> Iterator[tuple[Picture, Row | None]]:
    """Each picture with its row, None where it cannot be read; the first network is the student, the second its teacher."""
    while some := list(islice(pictures, batch_size)):
        known = [picture.pixels for picture in some if picture.pixels is not None]
        if known:
            pixels = torch.from_numpy(np.stack(known))
            found = zip(
                *(answers(one, pixels, top if place == 0 else 1) for place, one in enumerate(networks)), strict=True
            )
        for picture in some:
            yield picture, None if picture.pixels is None else _row(picture.file, *next(found))


def _row(file: str, student: Answer, teacher: Answer | None = None) -> Row:
    row: dict[str, object] = {"file": file}
    for place, (name, probability) in enumerate(zip(*student, strict=True), 1):
        mark = "" if place == 1 else f"_{place}"
        row |= {f"class{mark}": name, f"probability{mark}": probability}
    if teacher is not None:
        row |= {"teacher_class": teacher.classes[0], "teacher_probability": teacher.probabilities[0]}
        row["agree"] = student.classes[0] == teacher.classes[0]
    return row
