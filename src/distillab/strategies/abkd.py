"""ABKD: the α-β-divergence, between forward and reverse KL (arXiv 2505.04560)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, mean_of_rows, widened

__all__ = ["abkd"]


@mean_of_rows(positive=())
def abkd(s: Tensor, t: Tensor, alpha: float = 0.8, beta: float = 0.3) -> Tensor:
    """−1/(αβ) · Σ [p^α q^β − α/(α+β) p^(α+β) − β/(α+β) q^(α+β)], mean over the batch (Wang et al., arXiv 2505.04560).

    p = softmax(t), q = softmax(s) of logits (N, C). Where α, β or α + β is 0, or so near that the terms cancel, it is
    the limit; (1, 0) is forward KL, (0, 1) reverse KL. With a negative power it may be infinite for far apart logits.
    """
    s, t = widened(s, t)
    log_p, log_q = F.log_softmax(t, -1), F.log_softmax(s, -1)
    ratio = log_p - log_q
    # Beside a limit the terms cancel to less than they are rounded by; the limit is nearer to the truth then.
    rounding = torch.finfo(s.dtype).eps
    near = rounding**0.5
    if max(abs(alpha), abs(beta)) < rounding ** (1 / 3):
        return ratio.square().sum(-1) / 2
    if abs(alpha + beta) < near:
        return ((alpha * ratio).expm1() - alpha * ratio).sum(-1) / alpha**2
    if abs(beta) < near:
        p, q = (alpha * log_p).exp(), (alpha * log_q).exp()
        return (p * alpha * ratio - p + q).sum(-1) / alpha**2
    if abs(alpha) < near:
        p, q = (beta * log_p).exp(), (beta * log_q).exp()
        return (q * beta * -ratio - q + p).sum(-1) / beta**2
    total = alpha + beta
    p, q = (total * log_p).exp(), (total * log_q).exp()
    mixed = (alpha * log_p + beta * log_q).exp()
    return (alpha / total * p + beta / total * q - mixed).sum(-1) / (alpha * beta)


class ABKD(LogitsTerm, loss=abkd):
    weight: Scheduled = 32.0
    alpha: Scheduled = 0.8
    beta: Scheduled = 0.3
