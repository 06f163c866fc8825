"""Flow of solution procedure: how each stage's map turns into the next (Yim et al., CVPR 2017)."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled
from distillab.strategies.parts.features import NeighbouringStages, check_same_channels, checked, inner, pool_to_smaller

__all__ = ["fsp"]


def flow(bottom: Tensor, top: Tensor) -> Tensor:
    """Inner products of the two stages' channels, mean over the pixels: (N, C_top, C_bottom)."""
    bottom, top = (x.flatten(2) for x in pool_to_smaller(bottom, top))
    return inner(top, bottom) / top.shape[2]


def fsp(bottom_s: Tensor, top_s: Tensor, bottom_t: Tensor, top_t: Tensor) -> Tensor:
    """Mean squared difference of the Gram matrices between two stages (Yim et al., CVPR 2017).

    Maps (N, C, H, W), of one C at the bottom, one at the top; the larger of a model is average-pooled to the smaller.
    """
    maps = {"bottom_s": bottom_s, "top_s": top_s, "bottom_t": bottom_t.detach(), "top_t": top_t.detach()}
    bottom_s, top_s, bottom_t, top_t = checked("N, C, H, W", **maps)
    check_same_channels(bottom_s=bottom_s, bottom_t=bottom_t)
    check_same_channels(top_s=top_s, top_t=top_t)
    return F.mse_loss(flow(bottom_s, top_s), flow(bottom_t, top_t))


class FSP(NeighbouringStages):
    """The term of `fsp`, summed over neighbouring stages.

    With `stem` the map before the first stage, where both models show one, is the bottom of a further pair, as published.
    """

    needs = (*NeighbouringStages.needs, "student.stem", "teacher.stem")
    weight: Scheduled = 1.0
    stem: bool = True

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Pair the stages; models of other channels are refused."""
        super().connect(student, teacher)
        own, other = student.stem, teacher.stem
        self.from_stem = self.stem and own is not None and other is not None
        if self.from_stem and own.channels != other.channels:
            raise UserError(
                f"it needs equal channels before the first stage too, and {student.name} has {own} where {teacher.name} "
                f"has {other}; leave that pair out with strategy.fsp.stem=false"
            )
        if not self.from_stem:
            self.needs = NeighbouringStages.needs

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        pairs = [(student.stages[i], teacher.stages[j]) for i, j in self.pairs]
        if self.from_stem:
            pairs.insert(0, (student.stem, teacher.stem))
        return torch.stack([fsp(b_s, t_s, b_t, t_t) for (b_s, b_t), (t_s, t_t) in pairwise(pairs)]).sum()
