"""Refined logit distillation: a wrong teacher's knowledge is corrected by the label (arXiv 2408.07703)."""

from dataclasses import KW_ONLY

from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.kd import kd_rows
from distillab.strategies.parts.logits import LogitsTerm, kl, log_pair, mean_of_rows, widened

__all__ = ["rld"]

# Far below any logit, so that the class has probability 0, and finite, so that a row without a class left gives 0.
ABSENT = -1e30


@mean_of_rows(positive=("temperature", "alpha_temperature"))
def rld(
    s: Tensor,
    t: Tensor,
    y: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    alpha_temperature: float = 1.0,
) -> Tensor:
    """α · Tα² · KL of confidences + β · T² · KL over the classes below the true one (Sun et al., arXiv 2408.07703).

    The confidences are the pairs (top class, rest) of the teacher and (true class, rest) of the student; the classes
    below are those to which the teacher gives a smaller logit than to the true class. Logits (N, C), labels (N,),
    temperatures T > 0 and Tα > 0.
    """
    s, t = widened(s, t)
    teacher_pair = log_pair(t / alpha_temperature, t.argmax(-1))
    confidence = alpha_temperature**2 * kl(teacher_pair, log_pair(s / alpha_temperature, y))
    not_below = t >= t.gather(-1, y[:, None])
    below = kd_rows(s.masked_fill(not_below, ABSENT), t.masked_fill(not_below, ABSENT), temperature)
    return alpha * confidence + beta * below


class RLD(LogitsTerm, loss=rld):
    needs = (*LogitsTerm.needs, "batch.labels")
    weight: Scheduled = 1.0
    _: KW_ONLY
    alpha: Scheduled = 1.0
    beta: Scheduled = 8.0
    temperature: Scheduled = 4.0
    alpha_temperature: Scheduled = 4.0
