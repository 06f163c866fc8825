"""Knowledge review: each stage of the student, fused with what lies deeper, regresses the teacher's (arXiv 2104.09044)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.allowed import Choice
from distillab.models.feature_info import FeatureInfo, match_stages
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.connectors import PointBatchNorm
from distillab.strategies.parts.features import check_same_shape, checked, embedding_widths

__all__ = ["hcl"]

WIDEST = 512  # channels in which the stages are mixed, at most


def hcl(F_s: Tensor, F_t: Tensor) -> Tensor:
    """Hierarchical context loss of ReviewKD (Chen et al., arXiv 2104.09044): MSE of two maps and of their pools.

    Maps (N, C, H, W) of one shape. The pools are those of 4×4, 2×2 and 1×1 cells that are lower than the map, weighted
    1/2, 1/4, 1/8 in the order taken; the sum is divided by that of all weights, the map's own 1 included.
    """
    check_same_shape(F_s=F_s, F_t=F_t)
    F_s, F_t = checked("N, C, H, W", F_s=F_s, F_t=F_t.detach())
    loss, weights, weight = F.mse_loss(F_s, F_t), 1.0, 1.0
    for side in (4, 2, 1):
        if side < F_s.shape[2]:
            weight /= 2
            pools = (F.adaptive_avg_pool2d(x, side) for x in (F_s, F_t))
            loss, weights = loss + weight * F.mse_loss(*pools), weights + weight
    return loss / weights


class Fusion(nn.Module):
    """Attention-based fusion of a stage with what came out of the deeper ones, for one stage of the teacher."""

    def __init__(self, channels: int, middle: int, out: int, size: tuple[int, int], *, deepest: bool) -> None:
        super().__init__()
        self.size = size
        self.enter = nn.Sequential(nn.Conv2d(channels, middle, 1, bias=False), PointBatchNorm(middle))
        self.leave = nn.Sequential(nn.Conv2d(middle, out, 3, padding=1, bias=False), PointBatchNorm(out))
        self.attention = None if deepest else nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid())
        for convolution in (self.enter[0], self.leave[0]):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The stage and the deeper result → what is compared with the teacher, and what goes to the next stage."""
        x = self.enter(x)
        if self.attention is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            share = self.attention(torch.cat([x, deeper], 1))
            x = share[:, :1] * x + share[:, 1:] * deeper
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="nearest")
        return self.leave(x), x


class ReviewKD(Term):
    """The term of `hcl`, summed over the stages and the embedding as a 1×1 map.

    The teacher's stages are read before their activations, the student's where `student_maps` says: `after` them, as the
    authors do on CIFAR, or `before`, as on ImageNet.
    """

    needs = ("student.stages", "student.embedding", "teacher.preactivations", "teacher.embedding")
    weight: Scheduled = 5.0
    student_maps: str = "after"

    def __post_init__(self) -> None:
        super().__post_init__()
        Choice("after", "before").check(self.student_maps, "student_maps")
        self.read = {"after": "stages", "before": "preactivations"}[self.student_maps]
        self.needs = (f"student.{self.read}", *type(self).needs[1:])

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        self.pairs = match_stages(student, teacher)[::-1]
        width, goal_width = embedding_widths(student, teacher)
        middle = min(WIDEST, width)
        fusions = [Fusion(width, middle, goal_width, (1, 1), deepest=True)]
        for i, j in self.pairs:
            stage, goal = student.stages[i], teacher.stages[j]
            fusions.append(Fusion(stage.channels, middle, goal.channels, (goal.height, goal.width), deepest=False))
        self.fusions = nn.ModuleList(fusions)

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        stages = getattr(student, self.read)
        maps = [student.embedding[..., None, None], *(stages[i] for i, _ in self.pairs)]
        goals = [teacher.embedding[..., None, None], *(teacher.preactivations[j] for _, j in self.pairs)]
        losses, deeper = [], None
        for fusion, x, goal in zip(self.fusions, maps, goals, strict=True):
            fused, deeper = fusion(x, deeper)
            losses.append(hcl(fused, goal))
        return torch.stack(losses).sum()
