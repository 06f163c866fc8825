"""DistiLLM-2: skewed KL on what the teacher wrote, skewed reverse KL on what the student wrote (arXiv 2503.07067)."""

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, log_mixture, log_softened, mean_of_rows
from distillab.strategies.skew_kl import skew_kl

__all__ = ["distillm2"]


@mean_of_rows(positive=("alpha", "beta", "temperature"), below={"alpha": 1, "beta": 2})
def distillm2(
    s: Tensor,
    t: Tensor,
    written: Tensor | None = None,
    alpha: float = 0.1,
    beta: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """(2 − β) · `skew_kl` of rows that the teacher wrote, β · `skew_reverse_kl` of the student's; mean over all rows.

    Logits s, t (N, C); `written`, bool (N,), is True where the student wrote the text; None: nowhere. In the student's
    rows the mixture (1 − α) · p + α · q is held constant. α lies between 0 and 1, β between 0 and 2 (arXiv 2503.07067).
    """
    teachers = (2 - beta) * skew_kl.rows(s, t, alpha, temperature)
    if written is None:
        return teachers
    if written.dtype != torch.bool or written.shape != s.shape[:1]:
        raise UserError(f"written must be bool ({len(s)},), got {written.dtype} {tuple(written.shape)}")
    log_q, log_p = log_softened(s, t, temperature)
    mixture = log_mixture(log_q, log_p, alpha).detach()
    return torch.where(written, beta * temperature**2 * kl(log_q, mixture), teachers)


class DistiLLM2(LogitsTerm):
    needs = (*LogitsTerm.needs, "batch.written")
    pools = needs_tail = True
    above = {"alpha": 0, "beta": 0}
    below = {"alpha": 1, "beta": 2}

    weight: Scheduled = 0.5
    alpha: Scheduled = 0.1
    beta: Scheduled = 1.0
    temperature: Scheduled = 1.0

    def rows(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        written: Tensor | None = None,
    ) -> Tensor:
        return distillm2.rows(student_logits, teacher_logits, written, **self.numbers())
