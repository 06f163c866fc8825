"""Knowledge distillation from the teacher's softened output (Hinton, Vinyals, Dean, arXiv 1503.02531)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.features import check_same_shape
from distillab.strategies.parts.logits import LogitsTerm, check_positive, widened

__all__ = ["kd"]


def kd_rows(s: Tensor, t: Tensor, temperature: float | Tensor = 4.0) -> Tensor:
    """`kd` of each row: (N, C), (N, C) → (N,)."""
    s, t = widened(s, t)
    log_student, log_teacher = F.log_softmax(s / temperature, dim=-1), F.log_softmax(t / temperature, dim=-1)
    # Summed over classes, not averaged; T² keeps the gradient's size independent of T.
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)


def kd(s: Tensor, t: Tensor, temperature: float = 4.0) -> Tensor:
    """T² · KL(softmax(t / T) ‖ softmax(s / T)) of logits (N, C), mean over N; T > 0 (arXiv 1503.02531)."""
    check_same_shape(s=s, t=t)
    check_positive(temperature=temperature)
    return kd_rows(s, t, temperature).mean()


class KD(LogitsTerm):
    pools = linear = True

    weight: Scheduled = 0.9
    temperature: Scheduled = 4.0

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None) -> Tensor:
        return kd_rows(student_logits, teacher_logits, self.temperature)
