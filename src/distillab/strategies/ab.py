"""Activation boundaries: which units of the teacher are on, before it says how much (Heo et al., arXiv 1811.03233)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo, match_stages
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.connectors import PreactivationConnector
from distillab.strategies.parts.features import checked

__all__ = ["activation_boundary"]


def activation_boundary(F_s: Tensor, F_t: Tensor, margin: float = 1.0) -> Tensor:
    """Squared hinge to +margin where the teacher's unit is on, to −margin where it is off (arXiv 1811.03233).

    Summed over the units of a sample, mean over the batch. A unit is on where its pre-activation is above 0.

    Args:
        F_s: student pre-activations (N, …), already brought to the teacher's shape by a connector.
        F_t: teacher pre-activations (N, …); receive no gradient.
        margin: how far on the right side is far enough.
    """
    F_s, F_t = checked("N, …", F_s=F_s, F_t=F_t.detach())
    if F_s.shape != F_t.shape:
        raise UserError(f"F_s and F_t must have one shape, got {tuple(F_s.shape)} and {tuple(F_t.shape)}")
    short = torch.where(F_t > 0, margin - F_s, margin + F_s)
    return F.relu(short).square().flatten(1).sum(1).mean()


class ActivationBoundary(Term):
    """The term of `activation_boundary`, summed over the stages with weights 1, 1/2, 1/4, … from the last one down.

    Args:
        margin: how far on the right side is far enough, above 0.
    """

    needs = ("student.preactivations", "teacher.preactivations")

    def __init__(self, weight: Scheduled = 0.003, margin: float = 1.0) -> None:
        super().__init__(weight)
        self.margin = self.number("margin", margin, above=0)

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Pair the stages and build a connector for each pair."""
        self.pairs = match_stages(student, teacher)
        self.connectors = nn.ModuleList(
            PreactivationConnector(student.stages[i], teacher.stages[j]) for i, j in self.pairs
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """A scalar."""
        losses = [
            activation_boundary(connector(student.preactivations[i]), teacher.preactivations[j], self.margin)
            for connector, (i, j) in zip(self.connectors, self.pairs, strict=True)
        ]
        return sum(loss / 2**above for above, loss in enumerate(reversed(losses)))
