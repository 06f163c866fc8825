"""Normalised KD: the target's soft cross-entropy, and that of the other classes renormalised (arXiv 2303.13005)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import OtherClassesTerm, mean_of_rows, others, widened

__all__ = ["nkd"]


@mean_of_rows(positive=("temperature",))
def nkd(s: Tensor, t: Tensor, y: Tensor, gamma: float = 1.5, temperature: float = 1.0) -> Tensor:
    """−p_t[y] · log p_s[y] at T = 1, plus γ · T² · cross-entropy of the other classes at T (arXiv 2303.13005).

    The other classes are renormalised to 1 on each side. Logits s, t (N, C), labels y (N,), T > 0; mean over the batch.
    """
    s, t = widened(s, t)
    # cross_entropy with a target distribution is −Σ p log q.
    target = t.softmax(-1).gather(-1, y[:, None]).squeeze(-1) * F.cross_entropy(s, y, reduction="none")
    p = (others(t, y) / temperature).softmax(-1)
    rest = F.cross_entropy(others(s, y) / temperature, p, reduction="none")
    return target + gamma * temperature**2 * rest


class NKD(OtherClassesTerm, loss=nkd):
    weight: Scheduled = 1.0
    gamma: Scheduled = 3.5
    temperature: Scheduled = 3.0
