"""The student's own moving average as its teacher."""

from __future__ import annotations

import copy

import torch
from torch import nn

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.image_model import ImageModel
from distillab.schemes.base import Run, Scheme, refuse_dtype, refuse_hidden_labels, refuse_teacherless
from distillab.strategies.base import Term
from distillab.teachers.frozen import FrozenTeacher


class EMATeacher(FrozenTeacher):
    """An exponential moving average of the student (mean teacher, arXiv 1703.01780).

    After step n every weight and floating-point buffer a becomes d·a + (1 − d)·s, s the student's and
    d = min(decay, n / (n + 1)): the plain mean of all states so far, until the average has reached its full memory.
    Integer buffers are copied. It is in the checkpoint, and in eval mode.

    Args:
        student: whose average it is; copied.
        decay: from 0 (the student itself, a step ago) to below 1.

    Raises:
        UserError: a decay out of its range.
    """

    frozen = False

    def __init__(self, student: ImageModel, decay: float = 0.999) -> None:
        check_decay(decay)
        super().__init__(copy.deepcopy(student))
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def after_step(self, student: nn.Module) -> None:
        """Follow the student by one step."""
        self.steps += 1
        decay = (self.steps / (self.steps + 1)).clamp(max=self.decay)
        for average, value in zip(self.model.state_dict().values(), student.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, (1 - decay).to(average.dtype))
            else:
                average.copy_(value)


class EMA(Scheme):
    """The student learns from the average of what it was; no teacher is trained beforehand.

    Args:
        decay: see `EMATeacher`.

    Raises:
        UserError: a decay out of its range.
    """

    name = "ema"

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        check_decay(decay)
        self.decay = decay

    def prepare(self, run: Run, student: ImageModel) -> FeatureInfo:
        """The teacher is of the student's build."""
        refuse_teacherless(run, self.name)
        refuse_dtype(run, self.name)
        refuse_hidden_labels(run, "scheme=ema: an average of a student that still learns")
        for name, term in run.strategy.terms.items():
            if term.ready_teacher or type(term).deploy is not Term.deploy:
                why = "asks a teacher beforehand" if term.ready_teacher else "ships a head that nobody trains here"
                raise UserError(
                    f"scheme=ema: strategy.{name} {why}; choose another, e.g. strategy=kd, or scheme=offline"
                )
        self.parent = f"average of {student.info.name}"
        return student.info

    def source(self, student: ImageModel) -> nn.Module:
        """The average, which starts as the student."""
        return EMATeacher(student, self.decay)


def check_decay(decay: float) -> None:
    """Raise unless 0 ≤ decay < 1."""
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
        raise UserError(f"decay must be a number from 0 to below 1, got {decay!r}; e.g. scheme.decay=0.999")
