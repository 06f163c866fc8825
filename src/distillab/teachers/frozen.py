"""A teacher that cannot change."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.image_model import ImageModel


class FrozenTeacher(nn.Module):
    """One fixed teacher: always in eval mode, without gradients, left out of checkpoints.

    Any source of teacher outputs has this interface: `frozen`, `spec`, `tap`, `outputs`, `after_step`.

    Args:
        model: the teacher.
    """

    frozen = True

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.info = model.info
        self.train(False)  # a new module stands in train mode

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in eval mode, whatever the parent module does."""
        return super().train(False)

    def request(self, needs: Iterable[str]) -> None:
        """Prepare to read these outputs."""
        self.extractor = FeatureExtractor(self.model, needs)

    @torch.no_grad()  # not inference mode: a loss cannot be differentiated through inference tensors
    def outputs(self, views: list[Tensor], labels: Tensor | None = None) -> list:
        """What the teacher says of each view, a namespace per view; some sources look at the labels too."""
        return [self.extractor(images) for images in views]

    def after_step(self, student: nn.Module) -> None:
        """Nothing: a fixed teacher does not follow the student."""
