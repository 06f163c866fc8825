"""Several frozen teachers as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.teachers.base import TeacherSource, refuse_beyond_logits

WEIGHTINGS = ("mean", "confidence")


class Mixture(Model):
    """The mixture of several networks' probabilities (arXiv 1503.02531), as log-probabilities.

    Args:
        members: the networks.
        weighting: `mean`, or `confidence`: each sample weighs a network by the probability that it gives the label.

    Raises:
        UserError: no such weighting, or networks of unequal classes.
    """

    def __init__(self, members: Sequence[Model], weighting: str = "mean") -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise UserError(f'weighting must be one of {", ".join(WEIGHTINGS)}, got "{weighting}"')
        self.members = nn.ModuleList(members)
        self.weighting = weighting
        infos = [member.info for member in members]
        if len({info.outputs for info in infos}) > 1:
            counted = ", ".join(f"{info.name} {info.outputs}" for info in infos)
            raise UserError(f"an ensemble's networks must tell the same classes apart: {counted}")
        self.info = FeatureInfo("+".join(info.name for info in infos), (), None, infos[0].outputs, None)

    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """One view → log-probabilities (N, classes); without labels each network weighs the same."""
        members = torch.stack(
            [F.log_softmax(member(**inputs).float(), 1) for member in self.members]
        )  # (networks, N, C)
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
    """A mixture as a source of teacher outputs.

    Args:
        mixture: holds its networks' weights; frozen from now on.
    """

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.mixture = mixture.requires_grad_(False)
        self.info = mixture.info
        self.train(False)

    def request(self, needs: Iterable[str]) -> None:
        """Refuse all but logits: the networks' maps have no mean."""
        refuse_beyond_logits(needs, "an ensemble")

    @torch.no_grad()
    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The mixture's logits for each view."""
        labels = batch.targets.get("labels")
        return [SimpleNamespace(logits=self.mixture(labels, **inputs)) for inputs in batch.inputs]
