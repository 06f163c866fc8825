"""Wasserstein distillation of features: match each channel's mean and deviation (Lv, Yang, Li, arXiv 2412.08139)."""

from dataclasses import replace

from torch import Tensor

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.connectors import MapConnector
from distillab.strategies.parts.features import check_pixels, check_same_channels, checked

__all__ = ["wkd"]


def wkd(F_s: Tensor, F_t: Tensor, mean_weight: float = 4.0, eps: float = 1e-5) -> Tensor:
    """Σ over channels of mean_weight·(μ_s − μ_t)² + (σ_s − σ_t)², mean over the batch (arXiv 2412.08139).

    μ is a channel's mean over its pixels, σ = √(unbiased variance + eps): the squared Wasserstein distance of two
    Gaussians, its means weighted. Maps (N, C, H, W) of one C and more than one pixel.
    """
    F_s, F_t = checked("N, C, H, W", F_s=F_s, F_t=F_t.detach())
    check_same_channels(F_s=F_s, F_t=F_t)
    if min(F_s[0, 0].numel(), F_t[0, 0].numel()) < 2:
        raise UserError("F_s and F_t must have more than one pixel: a single one has no deviation")
    mean = F_s.mean((2, 3)) - F_t.mean((2, 3))
    deviation = (F_s.var((2, 3)) + eps).sqrt() - (F_t.var((2, 3)) + eps).sqrt()
    return (mean_weight * mean.square() + deviation.square()).sum(1).mean()


class WKD(Term):
    """The term of `wkd`, on the last stage's map and with its connector."""

    needs = ("student.stages", "teacher.stages")
    weight: Scheduled = 0.08
    mean_weight: float = 4.0

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        check_pixels(student, teacher, "a map of one pixel has no deviation")
        last = student.stages[-1]
        self.connector = MapConnector(last, replace(teacher.stages[-1], height=last.height, width=last.width))

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        return wkd(self.connector(student.stages[-1]), teacher.stages[-1], self.mean_weight)
