"""LumiNet: each class's logits are standardised over the batch before they are compared (arXiv 2310.03669)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled, Term
from distillab.strategies.parts.logits import check_logits, kl, widened

__all__ = ["luminet"]


def perception(z: Tensor) -> Tensor:
    """Each class less its mean over the batch, over the root of its biased variance + 1e-5: (N, C) → (N, C)."""
    return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()


def luminet(s: Tensor, t: Tensor, temperature: float = 4.0) -> Tensor:
    """KL of standardised logits at T > 0, teacher to student, mean over the batch, without T² (arXiv 2310.03669).

    Each class is standardised over the batch; the student's mean and variance carry gradient. One row (1, C) gives 0.
    """
    check_logits(s, t, temperature=temperature)
    s, t = widened(s, t)
    log_student, log_teacher = (F.log_softmax(perception(z) / temperature, -1) for z in (s, t))
    return kl(log_teacher, log_student).mean()


class LumiNet(Term, loss=luminet):
    needs = ("student.logits", "teacher.logits")
    global_batch = True
    weight: Scheduled = 1089.0
    temperature: Scheduled = 4.0
