"""Forward and reverse KL together, each with its share."""

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, log_softened, mean_of_rows

__all__ = ["symmetric_kl"]


@mean_of_rows(positive=("reverse_share", "temperature"), below={"reverse_share": 1})
def symmetric_kl(s: Tensor, t: Tensor, reverse_share: float = 0.5, temperature: float = 1.0) -> Tensor:
    """T² · ((1 − λ) · KL(p ‖ q) + λ · KL(q ‖ p)), mean over the batch (as a baseline in arXiv 2402.03898).

    p = softmax(t / T), q = softmax(s / T) of logits (N, C); λ, the reverse share, lies between 0 and 1.
    """
    log_q, log_p = log_softened(s, t, temperature)
    return temperature**2 * ((1 - reverse_share) * kl(log_p, log_q) + reverse_share * kl(log_q, log_p))


class SymmetricKL(LogitsTerm, loss=symmetric_kl):
    pools = needs_tail = True
    above = {"reverse_share": 0}
    below = {"reverse_share": 1}

    weight: Scheduled = 0.5
    reverse_share: Scheduled = 0.5
    temperature: Scheduled = 1.0
