"""A teacher with fixed weights."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import ClassVar

import torch

from distillab.data.batch import Batch
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.folding import folded
from distillab.models.model import Model
from distillab.models.parts import read_in_parts
from distillab.teachers.base import TeacherSource


class FrozenTeacher(TeacherSource):
    """One fixed teacher: always in eval mode, without gradients, left out of checkpoints.

    A network of images runs as a copy whose BatchNorms are folded into the convolutions before them.
    """

    folds: ClassVar[bool] = True
    extractor: FeatureExtractor | None = None

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.info = model.info
        self.train(False)  # a new module is in train mode

    def request(self, needs: Iterable[str]) -> None:
        """Select the outputs to read."""
        self.release()
        self.folded = folded(self.model, needs) if self.folds else None  # a submodule, which moves with this one
        self.extractor = FeatureExtractor(self.folded or self.model, needs)

    @torch.no_grad()  # not inference mode: a loss cannot be differentiated through inference tensors
    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The requested outputs for each view."""
        return [read_in_parts(self.extractor, self.model, inputs) for inputs in batch.inputs]

    def compile_network(self) -> bool:
        """Run the network through torch.compile from now on."""
        self.extractor.compile()
        return True

    def release(self) -> None:
        """Remove the hooks from the network."""
        if self.extractor is not None:
            self.extractor.remove()
