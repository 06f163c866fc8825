"""Flow of solution procedure: how each stage's map turns into the next (Yim et al., CVPR 2017)."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Fields, Outputs
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
    """The term of `fsp`, summed over neighbouring stages."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        pairs = [(student.stages[i], teacher.stages[j]) for i, j in self.pairs]
        return torch.stack([fsp(b_s, t_s, b_t, t_t) for (b_s, b_t), (t_s, t_t) in pairwise(pairs)]).sum()
