"""Neuron selectivity transfer: match how single channels are spread over the image (Huang, Wang, arXiv 1707.01219)."""

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.features import StagePairs, checked, inner, pool_to_smaller, unit

__all__ = ["nst"]


def nst(F_s: Tensor, F_t: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the channels of two maps, kernel (xᵀy)² (arXiv 1707.01219).

    Maps (N, C, H, W), C may differ; each channel is flattened and L2-normalised, the larger map pooled to the smaller.
    """
    F_s, F_t = pool_to_smaller(*checked("N, C, H, W", F_s=F_s, F_t=F_t.detach()))
    F_s, F_t = unit(F_s.flatten(2)), unit(F_t.flatten(2))
    within = inner(F_t, F_t).square().mean() + inner(F_s, F_s).square().mean()
    return within - 2 * inner(F_s, F_t).square().mean()


class NST(StagePairs, loss=nst):
    weight: Scheduled = 50.0
