"""Total variation distance: half of what the two distributions differ by (f-DISTILL, arXiv 2307.15190)."""

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, log_softened, mean_of_rows

__all__ = ["tvd"]


@mean_of_rows(positive=("temperature",))
def tvd(s: Tensor, t: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · ½ · Σ |p − q|, p = softmax(t / T), q = softmax(s / T) of logits (N, C), mean over N (arXiv 2307.15190)."""
    log_q, log_p = log_softened(s, t, temperature)
    return temperature**2 * 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)


class TVD(LogitsTerm, loss=tvd):
    pools = True

    weight: Scheduled = 0.5
    temperature: Scheduled = 1.0
