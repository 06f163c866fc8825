"""The student's own moving average as its teacher."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from distillab.core.allowed import Range
from distillab.models.model import Model
from distillab.teachers.base import TeacherSource
from distillab.teachers.frozen import FrozenTeacher


class EMATeacher(FrozenTeacher):
    """An exponential moving average of the student (mean teacher, arXiv 1703.01780).

    After step n every weight and floating-point buffer a becomes d·a + (1 − d)·s, s the student's and
    d = min(decay, n / (n + 1)): the plain mean of all states so far, until the average has reached its full memory.
    Integer buffers are copied. Checkpoints contain it. UserError unless `decay` lies from 0 (the student one step ago)
    to below 1.
    """

    frozen = False
    folds = False

    def __init__(self, student: Model, decay: float = 0.999) -> None:
        TeacherSource.__init__(self)
        self.decay = Range(0, below=1).check(decay, "scheme.decay", 0.999)
        self.average = AveragedModel(student, avg_fn=self._averaged, use_buffers=True)
        self.average.n_averaged.fill_(1)  # the student's first state counts
        self.average.requires_grad_(False)
        self.info = student.info
        self.train(False)

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The average itself."""
        return self.average.module

    def _averaged(self, average: Tensor, value: Tensor, steps: Tensor) -> Tensor:
        if not average.is_floating_point():
            return value
        decay = (steps / (steps + 1)).clamp(max=self.decay)
        return average.lerp(value, (1 - decay).to(average.dtype))

    @torch.no_grad()
    def after_step(self, student: Model) -> None:
        """Update the average by one step."""
        self.average.update_parameters(student)
