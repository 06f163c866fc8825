"""TAID: a teacher between the student and the teacher, which moves to the teacher as fast as the student follows."""

import torch
from torch import Tensor

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LEAST, LogitsTerm, kl, log_softened, mean_of_rows, widened

__all__ = ["taid"]


@mean_of_rows(positive=("share", "temperature"))
def taid(s: Tensor, t: Tensor, share: float | Tensor = 0.4, temperature: float = 1.0) -> Tensor:
    """T² · KL(softmax(((1 − k) · s + k · t) / T) ‖ softmax(s / T)) with the mixture constant (arXiv 2501.16937).

    Logits s, t (N, C), mean over N; k, the teacher's share, is above 0, and 1 for the teacher alone, which is `kd`.
    """
    s, t = widened(s, t)
    between = (1 - share) * s.detach().clamp(min=LEAST) + share * t.clamp(min=LEAST)
    log_q, log_p = log_softened(s, between, temperature)
    return temperature**2 * kl(log_p, log_q)


class TAID(LogitsTerm):
    """The term of `taid`, whose share goes from `start` to 1 in the fit's steps, and ahead of that where it goes well.

    After each step: velocity ← m · velocity + (1 − m) · (what the loss fell by, relatively), m the `momentum`, and the
    share rises by `alpha` · σ(velocity) · (1 − share), or to the straight line from `start` to 1, which is the least.
    """

    above = {"start": 0, "alpha": 0, "momentum": 0}
    below = {"start": 1, "momentum": 1}

    weight: Scheduled = 0.5
    start: float = 0.4
    alpha: float = 5e-4
    momentum: float = 0.99
    temperature: Scheduled = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in {"share": self.start, "velocity": 0.0, "last_loss": torch.inf}.items():
            self.register_buffer(name, torch.tensor(value))

    def after_step(self, loss: Tensor, progress: float) -> None:
        """Move the share; the first step only shows what loss there is to fall."""
        first = self.last_loss.isinf()  # asked on the device: the host does not wait for it
        fell = (self.last_loss - loss) / self.last_loss.clamp(min=torch.finfo(loss.dtype).tiny)
        self.velocity.mul_(self.momentum).add_((1 - self.momentum) * torch.where(first, 0, fell))
        ahead = self.share + self.alpha * self.velocity.sigmoid() * (1 - self.share)
        least = self.start + (1 - self.start) * progress
        self.share.copy_(torch.where(first, self.share, ahead.clamp(min=least, max=1)))
        self.last_loss.copy_(loss)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None) -> Tensor:
        return taid.rows(student_logits, teacher_logits, self.share, self.temperature)
