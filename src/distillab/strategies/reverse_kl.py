"""Reverse KL: the student leaves out what the teacher finds unlikely, and need not cover the rest (MiniLLM)."""

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, log_softened, mean_of_rows

__all__ = ["reverse_kl"]


@mean_of_rows(positive=("temperature",))
def reverse_kl(s: Tensor, t: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(q ‖ p), p = softmax(t / T), q = softmax(s / T) of logits (N, C), mean over N; T > 0 (arXiv 2306.08543)."""
    log_q, log_p = log_softened(s, t, temperature)
    return temperature**2 * kl(log_q, log_p)


class ReverseKL(LogitsTerm, loss=reverse_kl):
    pools = needs_tail = True

    weight: Scheduled = 0.5
    temperature: Scheduled = 1.0
