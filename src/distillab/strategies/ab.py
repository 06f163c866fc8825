"""Activation boundaries: which units of the teacher are on, before it says how much (Heo et al., arXiv 1811.03233)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.models.feature_info import Stage
from distillab.strategies.base import Scheduled
from distillab.strategies.parts.connectors import MapConnector, PreactivationTerm
from distillab.strategies.parts.features import check_same_shape, checked

__all__ = ["activation_boundary"]


def activation_boundary(F_s: Tensor, F_t: Tensor, margin: float = 1.0) -> Tensor:
    """Squared hinge of pre-activations (N, …) to +margin where the teacher's are above 0, else to −margin.

    Summed over a sample's units, mean over the batch (arXiv 1811.03233). F_s has the shape of F_t, from a connector.
    """
    F_s, F_t = checked("N, …", F_s=F_s, F_t=F_t.detach())
    check_same_shape(F_s=F_s, F_t=F_t)
    short = torch.where(F_t > 0, margin - F_s, margin + F_s)
    return F.relu(short).square().flatten(1).sum(1).mean()


class ActivationBoundary(PreactivationTerm, loss=activation_boundary):
    """The term of `activation_boundary`; stages of one shape are compared as they are, without a connector."""

    above = {"margin": 0}
    weight: Scheduled = 0.003
    margin: float = 1.0

    def connector(self, student: Stage, teacher: Stage) -> nn.Module:
        same = (student.channels, student.size) == (teacher.channels, teacher.size)
        return nn.Identity() if same else MapConnector(student, teacher, activated=False)
