"""Attention transfer: where in the image the activations are strong (Zagoruyko, Komodakis, arXiv 1612.03928)."""

from torch import Tensor

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo, match_stages
from distillab.strategies.base import Scheduled, choose_stage
from distillab.strategies.parts.features import StagePairs, checked, pool_to_smaller, unit

__all__ = ["attention_transfer"]


def check_power(p: float) -> None:
    """Refuse a p below 1: where an activation is 0, as behind a ReLU, F^p would have an infinite gradient."""
    if p < 1:
        raise UserError(f"p must be a number from 1, got {p:g}")


def attention_map(features: Tensor, p: float = 2) -> Tensor:
    """Mean over channels of F^p, flattened and L2-normalised: (N, C, H, W) → (N, H·W); of |F| where p is no whole number."""
    # Not of |F| in any case: its second derivative at 0, where a ReLU puts most activations, is another.
    return unit((features if float(p).is_integer() else features.abs()).pow(p).mean(1).flatten(1))


def attention_transfer(F_s: Tensor, F_t: Tensor, p: float = 2) -> Tensor:
    """Mean squared difference of the `attention_map`s of maps (N, C, H, W), whose C may differ (arXiv 1612.03928).

    The larger map is average-pooled to the smaller; p, the power of the activations, is 1 or more.
    """
    check_power(p)
    F_s, F_t = pool_to_smaller(*checked("N, C, H, W", F_s=F_s, F_t=F_t.detach()))
    return (attention_map(F_s, p) - attention_map(F_t, p)).square().mean()


class AttentionTransfer(StagePairs, loss=attention_transfer):
    """The term of `attention_transfer`, summed over `stages`: `all`, or a list of those that `choose_stage` knows."""

    weight: Scheduled = 1000.0
    stages: str | list[str | int] = "all"
    p: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_power(self.p)

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        partner = dict(match_stages(student, teacher))
        named = [self.stages] if isinstance(self.stages, str | int) else self.stages
        chosen = partner if self.stages == "all" else [choose_stage(s, student, list(partner)) for s in named]
        self.pairs = [(stage, partner[stage]) for stage in chosen]
