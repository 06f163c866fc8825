"""Variational information distillation: predict the teacher, variance learned (Ahn et al., arXiv 1904.05835)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled
from distillab.strategies.parts.features import StagePairs, check_same_shape, checked, pool_to_smaller

__all__ = ["vid"]

LEAST_VARIANCE = 1e-5


def vid(mean: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Mean of ½·[(mean − target)² / variance + log variance] over all entries (arXiv 1904.05835).

    Mean (predicted) and target (N, C, …). The variances (C,) learn, and must be above 0 (checked on a CPU only: on a
    GPU every step would wait).
    """
    check_same_shape(mean=mean, target=target)
    mean, target = checked("N, …", mean=mean, target=target.detach())
    if variance.numel() != mean.shape[1]:
        raise UserError(f"variance must be one for each of {mean.shape[1]} channels, got {tuple(variance.shape)}")
    if variance.device.type == "cpu" and not (variance > 0).all():
        raise UserError(f"variance must be above 0 in every channel, got {variance.min().item():g}")
    variance = variance.to(mean.dtype).reshape(-1, *[1] * (mean.ndim - 2))
    return ((mean - target).square() / variance + variance.log()).mean() / 2


class VID(StagePairs):
    """The term of `vid`, summed over all stages; each has a regressor, and `variance` per channel at first."""

    above = {"variance": LEAST_VARIANCE}
    weight: Scheduled = 1.0
    variance: float = 5.0

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        super().connect(student, teacher)
        start = math.log(math.expm1(self.variance - LEAST_VARIANCE))  # softplus turned round
        self.regressors, self.variances = nn.ModuleList(), nn.ParameterList()
        for i, j in self.pairs:
            inputs, channels = student.stages[i].channels, teacher.stages[j].channels
            first, second, third = (nn.Conv2d(n, channels, 1, bias=False) for n in (inputs, channels, channels))
            self.regressors.append(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third))
            self.variances.append(torch.full((channels,), start))

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        losses = []
        for (i, j), regressor, variance in zip(self.pairs, self.regressors, self.variances, strict=True):
            features, target = pool_to_smaller(student.stages[i], teacher.stages[j])
            losses.append(vid(regressor(features), target, F.softplus(variance) + LEAST_VARIANCE))
        return torch.stack(losses).sum()
