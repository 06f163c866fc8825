"""Writes the student as a program of torch.export, which PyTorch runs without the code of the network."""

import io
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from distillab.export.exporter import Answer, Exporter, Shipped, quietly


class TorchExport(Exporter):
    """A `.pt2` file, for `torch.export.load(file).module()`."""

    name = "torch_export"
    suffix = ".pt2"

    def convert(self, shipped: Shipped) -> ExportedProgram:
        """The program itself."""
        return shipped.program

    def export(self, shipped: Shipped, path: Path) -> None:
        """Write the program, with the metadata as the extra file `about/<key>`."""
        content = io.BytesIO()  # torch would complain about the name of a temporary file
        extra = {f"about/{key}": value for key, value in shipped.about.items()}
        with quietly():
            torch.export.save(self.convert(shipped), content, extra_files=extra)
        path.write_bytes(content.getbuffer())

    def load(self, path: Path) -> Answer:
        """The program's module, without gradients."""
        with quietly():
            module = torch.export.load(io.BytesIO(path.read_bytes())).module()

        @torch.no_grad()
        def answer(pixels: Tensor) -> Tensor:
            return module(pixels)

        return answer

    @property
    def runtime(self) -> str:
        """PyTorch."""
        return f"torch {torch.__version__}"
