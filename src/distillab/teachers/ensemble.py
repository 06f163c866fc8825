"""Several frozen teachers as one."""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.allowed import Choice
from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.teachers.base import TeacherSource


class Mixture(Model):
    """The mixture of several networks' probabilities (arXiv 1503.02531), as log-probabilities.

    The `weighting` is `mean`, or `confidence`, which weighs a network per sample by its probability of the label.
    UserError for any other, or networks of unequal classes.
    """

    def __init__(self, members: Sequence[Model], weighting: str = "mean") -> None:
        super().__init__()
        self.weighting = Choice("mean", "confidence").check(weighting, "scheme.weighting")
        self.members = nn.ModuleList(members)
        infos = [member.info for member in members]
        if len({info.outputs for info in infos}) > 1:
            counted = ", ".join(f"{info.name} {info.outputs}" for info in infos)
            raise UserError(f"an ensemble's networks must tell the same classes apart: {counted}")
        self.info = FeatureInfo("+".join(info.name for info in infos), (), None, infos[0].outputs, None)

    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Log-probabilities (N, classes) of one view; without labels all networks weigh the same."""
        logits = [member(**inputs) for member in self.members]
        members = torch.stack([F.log_softmax(each.float(), 1) for each in logits])  # (networks, N, C)
        if self.weighting == "mean" or labels is None:
            weights = members.new_zeros(len(members), 1)
        elif labels.ndim == 2:  # distributions over the classes
            weights = (members * labels).sum(2)
        else:
            weights = members.gather(2, labels.expand(len(members), -1)[..., None])[..., 0]
        return torch.logsumexp(members + F.log_softmax(weights, 0)[..., None], 0)

    def example_inputs(self, size: int = 2) -> dict[str, Tensor]:
        """Those of the first network."""
        return self.members[0].example_inputs(size)


class EnsembleTeacher(TeacherSource):
    """A mixture as a source of logits (the networks' feature maps have no mean); freezes its networks."""

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.mixture = mixture.requires_grad_(False)
        self.info = mixture.info
        self.train(False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The mixture's logits for each view."""
        labels = batch.targets.get("labels")
        return [SimpleNamespace(logits=self.mixture(labels, **inputs)) for inputs in batch.inputs]
