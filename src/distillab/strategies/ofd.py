"""Overhaul of feature distillation: maps before the ReLU, only where they tell (Heo et al., arXiv 1904.01866)."""

import math

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.strategies.base import Outputs, Scheduled
from distillab.strategies.parts.connectors import PreactivationTerm
from distillab.strategies.parts.features import check_same_shape, checked, pool_to_smaller

__all__ = ["ofd", "ofd_margin"]

RARE = 0.001  # a channel that is negative less often than this has its margin three deviations below 0


def ofd(F_s: Tensor, F_t: Tensor, margin: Tensor) -> Tensor:
    """Partial L2 of pre-activation maps (N, C, H, W) of one shape to t' = max(F_t, margin) (arXiv 1904.01866).

    Σ over C, H, W of (F_s − t')² where F_s > t' or t' > 0, mean over the batch: a unit that is off in the teacher
    need not be as far off in the student. The margins (C,), see `ofd_margin`, receive no gradient.
    """
    F_s, F_t = checked("N, C, H, W", F_s=F_s, F_t=F_t.detach())
    check_same_shape(F_s=F_s, F_t=F_t)
    if margin.shape != F_t.shape[1:2]:
        raise UserError(f"margin must be ({F_t.shape[1]},), a number for each channel, got {tuple(margin.shape)}")
    goal = torch.maximum(F_t, margin.detach().to(F_t)[:, None, None])
    counts = (F_s > goal) | (goal > 0)
    return torch.where(counts, F_s - goal, 0).square().flatten(1).sum(1).mean()


def ofd_margin(weight: Tensor, bias: Tensor) -> Tensor:
    """What a channel behind BatchNorm (scale and shift (C,)) is on average where it is negative (arXiv 1904.01866).

    The mean of a normal variable of mean `bias` and deviation |weight|, given that it is below 0; −3·|weight| where it
    hardly ever is. A constant channel (weight 0) has min(bias, 0). Without gradient; (C,), at most 0.
    """
    if weight.ndim != 1 or weight.shape != bias.shape:
        raise UserError(f"weight and bias must be (C,) of one C, got {tuple(weight.shape)} and {tuple(bias.shape)}")
    mean, constant = bias.detach().double(), weight.detach() == 0
    deviation = weight.detach().double().abs().where(~constant, 1)
    z = mean / deviation
    negative = torch.special.ndtr(-z)
    density = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
    margin = (mean - deviation * density / negative).where(negative > RARE, -3 * deviation)
    return margin.where(~constant, mean.clamp(max=0)).to(torch.promote_types(weight.dtype, torch.float32))


class OFD(PreactivationTerm):
    """The term of `ofd`, behind a 1×1 convolution with BatchNorm; of unequal sizes the larger map is average-pooled.

    The loss is a sum over the pixels: the teacher's map comes down to the student's, and not the other way round.
    """

    needs = ("student.preactivations", "teacher.preactivations", "teacher.norms")
    weight: Scheduled = 0.001

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        super().connect(student, teacher)
        for _, j in self.pairs:
            if teacher.stages[j].norm is None:
                raise UserError(
                    f"the margins come from the BatchNorm that ends a stage, and {teacher.name} has none in "
                    f"{teacher.stages[j]}; name other stages, teacher.stages=[…], or choose strategy=reviewkd"
                )

    def connector(self, student: Stage, teacher: Stage) -> nn.Module:
        convolution = nn.Conv2d(student.channels, teacher.channels, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(teacher.channels))

    def stage_loss(self, x: Tensor, teacher: Outputs, stage: int) -> Tensor:
        return ofd(*pool_to_smaller(x, teacher.preactivations[stage]), norm_margin(teacher.norms[stage]))


def norm_margin(norm: nn.BatchNorm2d) -> Tensor:
    """`ofd_margin` of a BatchNorm; one without scale and shift gives deviation 1 and mean 0."""
    if norm.weight is None:
        return ofd_margin(torch.ones(norm.num_features), torch.zeros(norm.num_features))
    return ofd_margin(norm.weight, norm.bias)
