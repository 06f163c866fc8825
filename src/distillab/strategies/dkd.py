"""Decoupled KD: the target class and the classes other than it, each with its own weight (arXiv 2203.08679)."""

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.kd import kd_rows
from distillab.strategies.parts.logits import OtherClassesTerm, kl, log_pair, mean_of_rows, others, widened

__all__ = ["dkd"]


@mean_of_rows(classes=3, positive=("temperature",))
def dkd(s: Tensor, t: Tensor, y: Tensor, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> Tensor:
    """T² · [α · KL of (target, rest) + β · KL over the renormalised other classes] (Zhao et al., arXiv 2203.08679).

    Logits s, t (N, C), C > 2; labels y (N,); mean over the batch; T > 0.
    """
    s, t = widened(s, t)
    target = temperature**2 * kl(log_pair(t / temperature, y), log_pair(s / temperature, y))
    return alpha * target + beta * kd_rows(others(s, y), others(t, y), temperature)


class DKD(OtherClassesTerm, loss=dkd):
    weight: Scheduled = 1.0
    alpha: Scheduled = 1.0
    beta: Scheduled = 8.0
    temperature: Scheduled = 4.0
