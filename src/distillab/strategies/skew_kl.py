"""Skewed KL: one model against a mixture with the other, which bounds the gradient (DistiLLM, arXiv 2402.03898)."""

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, log_mixture, log_softened, mean_of_rows

__all__ = ["skew_kl", "skew_reverse_kl"]


@mean_of_rows(positive=("alpha", "temperature"), below={"alpha": 1})
def skew_kl(s: Tensor, t: Tensor, alpha: float = 0.1, temperature: float = 1.0) -> Tensor:
    """T² · KL(p ‖ α · p + (1 − α) · q), mean over the batch (Ko et al., arXiv 2402.03898).

    p = softmax(t / T), q = softmax(s / T) of logits (N, C); α lies between 0 and 1.
    """
    log_q, log_p = log_softened(s, t, temperature)
    return temperature**2 * kl(log_p, log_mixture(log_p, log_q, alpha))


@mean_of_rows(positive=("alpha", "temperature"), below={"alpha": 1})
def skew_reverse_kl(s: Tensor, t: Tensor, alpha: float = 0.1, temperature: float = 1.0) -> Tensor:
    """T² · KL(q ‖ (1 − α) · p + α · q), mean over the batch; arguments are those of `skew_kl` (arXiv 2402.03898)."""
    log_q, log_p = log_softened(s, t, temperature)
    return temperature**2 * kl(log_q, log_mixture(log_q, log_p, alpha))


class SkewKL(LogitsTerm, loss=skew_kl):
    pools = True
    above = {"alpha": 0}
    below = {"alpha": 1}

    weight: Scheduled = 0.5
    alpha: Scheduled = 0.1
    temperature: Scheduled = 1.0


class SkewReverseKL(SkewKL, loss=skew_reverse_kl):
    """The term of `skew_reverse_kl`."""

    needs_tail = True
