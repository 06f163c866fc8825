"""NormKD: each row's own temperature, in proportion to its standard deviation (arXiv 2308.00520)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, kl, mean_of_rows, widened

__all__ = ["normkd"]


@mean_of_rows(positive=("scale",))
def normkd(s: Tensor, t: Tensor, scale: float = 2.0) -> Tensor:
    """T_t² · KL(softmax(t / T_t) ‖ softmax(s / T_s)), mean over the batch (Chi et al., arXiv 2308.00520).

    The temperature of each row of s, t (N, C), C > 1, is scale (> 0) · its unbiased standard deviation; the student's
    carries gradient. Not differentiable twice at a student row of equal logits.
    """
    s, t = widened(s, t)
    student_temperature, teacher_temperature = (scale * z.std(-1, keepdim=True) for z in (s, t))
    # Equal logits are a uniform distribution at every temperature.
    log_student = F.log_softmax(s / student_temperature.masked_fill(student_temperature == 0, 1), -1)
    log_teacher = F.log_softmax(t / teacher_temperature.masked_fill(teacher_temperature == 0, 1), -1)
    return teacher_temperature.squeeze(-1) ** 2 * kl(log_teacher, log_student)


class NormKD(LogitsTerm, loss=normkd):
    above = {"scale": 0}
    weight: Scheduled = 0.9
    scale: Scheduled = 2.0
