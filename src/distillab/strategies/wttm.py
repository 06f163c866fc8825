"""Transformed teacher matching: only the teacher is softened, by a power; weighted or not (arXiv 2402.11148)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, mean_of_rows, widened

__all__ = ["ttm", "wttm"]


@mean_of_rows(positive=("gamma",))
def ttm(s: Tensor, t: Tensor, gamma: float = 0.3) -> Tensor:
    """KL(q ‖ softmax(s)), mean over the batch; q = softmax(t)^γ renormalised (Zheng, Yang, arXiv 2402.11148).

    Logits s, t (N, C); γ > 0 is an inverse temperature of the teacher alone.
    """
    s, t = widened(s, t)
    # q = p^γ renormalised, with p = softmax(t), is softmax(γ · t).
    return kl(F.log_softmax(gamma * t, -1), F.log_softmax(s, -1))


@mean_of_rows(positive=("gamma",))
def wttm(s: Tensor, t: Tensor, gamma: float = 0.3) -> Tensor:
    """`ttm` with rows weighted by Σ softmax(t)^γ, a mean over rows, not over weights (arXiv 2402.11148)."""
    log_teacher = F.log_softmax(widened(s, t)[1], -1)
    return ttm.rows(s, t, gamma) * (gamma * log_teacher).exp().sum(-1)


class TTM(LogitsTerm):
    """The term of `wttm`, or of `ttm` where it is not `weighted`."""

    above = {"gamma": 0}
    weight: Scheduled = 4.0
    gamma: Scheduled = 0.2
    weighted: bool = True

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None) -> Tensor:
        loss = wttm if self.weighted else ttm
        return loss.rows(student_logits, teacher_logits, self.gamma)
