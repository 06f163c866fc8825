"""Generalised Jensen-Shannon divergence: both models against their mixture (GKD, arXiv 2306.13649)."""

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, log_mixture, log_softened, mean_of_rows

__all__ = ["jsd"]


@mean_of_rows(positive=("beta", "temperature"), below={"beta": 1})
def jsd(s: Tensor, t: Tensor, beta: float = 0.5, temperature: float = 1.0) -> Tensor:
    """T² · (β · KL(p ‖ m) + (1 − β) · KL(q ‖ m)), m = β · p + (1 − β) · q, mean over the batch (arXiv 2306.13649).

    p = softmax(t / T), q = softmax(s / T) of logits (N, C); β, the teacher's share, lies between 0 and 1. Near either end
    it goes to 0 as β · KL(p ‖ q) or (1 − β) · KL(q ‖ p): another β also changes how much the loss weighs.
    """
    log_q, log_p = log_softened(s, t, temperature)
    log_m = log_mixture(log_p, log_q, beta)
    return temperature**2 * (beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m))


class JSD(LogitsTerm, loss=jsd):
    pools = True
    above = {"beta": 0}
    below = {"beta": 1}

    weight: Scheduled = 0.5
    beta: Scheduled = 0.5
    temperature: Scheduled = 1.0
