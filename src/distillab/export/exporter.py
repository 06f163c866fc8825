"""The interface of every format of images, and what is exported."""

import json
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError, reason
from distillab.models.model import Model

if TYPE_CHECKING:
    from torch.export import ExportedProgram

INPUT = "pixels"  # the name of the input in every file
OUTPUT = "logits"
CHANNELS = {1: "grey", 3: "RGB"}
Answer = Callable[[Tensor], Tensor]  # uint8 pixels (N, C, H, W) → logits (N, classes)


class FromPixels(nn.Module):
    """A model of images in [0, 1] as one of uint8 pixels, 0 to 255 as a decoder gives them."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (N, C, H, W) in uint8 → logits (N, classes of the data) in float32."""
        return self.model(pixels=pixels.float() / 255).float()


@dataclass
class Shipped:
    """A student as it is deployed, in eval mode on the CPU, and what its files say of it.

    `shape` is (C, H, W) of the data's images, `calibration` gives batches of training images in uint8, without augmentation,
    and `notes` are further entries of a file's metadata. Raises UserError where torch cannot follow the network.
    """

    model: Model
    classes: Sequence[str]
    shape: tuple[int, int, int]
    calibration: Callable[[], Iterable[Tensor]]
    notes: Mapping[str, Any] = field(default_factory=dict)
    graph: Any = field(default=None, init=False)  # as ONNX, once a format has asked for it

    @property
    def example(self) -> Tensor:
        """Two images of noise in uint8, the same at every call."""
        return torch.randint(256, (2, *self.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    @property
    def about(self) -> dict[str, str]:
        """The metadata of a file, as text: what the network is, what it takes, what it gives."""
        channels, height, width = self.shape
        kind = CHANNELS.get(channels, f"{channels} channels")
        told = {
            "name": self.model.info.name,
            "input": f"{INPUT}: uint8 (batch, {channels}, {height}, {width}), {kind}, 0 to 255 as decoded; "
            "normalised and resized inside",
            "output": f"{OUTPUT}: float32 (batch, {len(self.classes)}), one for each class",
            "classes": json.dumps([str(name) for name in self.classes], ensure_ascii=False),
        }
        return told | {key: str(value) for key, value in self.notes.items()}

    @cached_property
    def program(self) -> "ExportedProgram":
        """The network as torch.export sees it, for batches of any size."""
        # A copy, as a graph of channels-last weights has nodes for their strides, and the student is to stay as it is.
        network = FromPixels(deepcopy(self.model)).eval().to(memory_format=torch.contiguous_format)
        try:
            with torch.no_grad(), quietly():
                batch = ({0: torch.export.Dim("batch")},)
                program = torch.export.export(network, (self.example,), dynamic_shapes=batch)
        except Exception as error:  # whatever a network does that torch.export cannot follow
            raise UserError(refused(self.model, "torch.export", error)) from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it names the folders of this machine
        return program


class Exporter(ABC):
    """Writes the student in one format, and runs what it has written."""

    name: ClassVar[str]
    suffix: ClassVar[str]  # of the file, behind `student`
    packages: ClassVar[tuple[str, ...]] = ()  # that it needs beside torch
    exact: ClassVar[bool] = True  # whether the file computes in the model's own numbers

    def check(self) -> None:
        """Raise UserError where a package is missing that the format needs."""
        if missing := [name for name in self.packages if find_spec(name) is None]:
            told = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
            raise UserError(f'export=[{self.name}]: {told}: pip install "distillab[export]", or leave {self.name} out')

    @abstractmethod
    def convert(self, shipped: Shipped) -> Any:
        """The network in a form of which `export` can write the file; raises UserError where there is none."""

    @abstractmethod
    def export(self, shipped: Shipped, path: Path) -> None:
        """Write the file; raises UserError where the network cannot be exported, OSError where the disk refuses."""

    @abstractmethod
    def load(self, path: Path) -> Answer:
        """What computes logits by the file alone, in as many threads as torch has."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """What runs the file here, with its version."""


@contextmanager
def quietly() -> Iterator[None]:
    """A block in which converters neither log every step nor warn of what is done on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def refused(model: Model, by: str, error: BaseException) -> str:
    """The message about a network that cannot be exported: the first line of what lies behind the error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in str(error).splitlines())
    told = reason(Exception(next(filter(None, lines), type(error).__name__)))
    return f"{model.info.name} cannot be exported: {by} refuses it ({told}); leave the format out, e.g. export=[]"
