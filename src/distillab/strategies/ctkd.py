"""Curriculum temperature: KD at a temperature that learns to make it harder (Li et al., arXiv 2211.16231)."""

import math

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.strategies.base import Scheduled, whole_epochs
from distillab.strategies.kd import kd_rows
from distillab.strategies.parts.logits import LogitsTerm


class CurriculumKD(LogitsTerm):
    """KD at one learned temperature, whose gradient is reversed: it climbs the loss that the student descends.

    T = lowest + (highest − lowest) · σ(θ), θ = 1 at first. The reversed gradient's strength rises to `reversal` along a
    half cosine, over `ramp` epochs (below 1 a share of all; 0 starts at the fullest).
    """

    def __init__(
        self,
        weight: Scheduled = 0.9,
        *,
        lowest: float = 1.0,
        highest: float = 21.0,
        reversal: Scheduled = 1.0,
        ramp: float = 1 / 24,
    ) -> None:
        super().__init__(weight)
        self.lowest = self.number("lowest", lowest, above=0)
        self.highest = self.number("highest", highest, above=self.lowest)
        self.reversal = self.number("reversal", reversal)
        self.ramp = self.number("ramp", ramp)
        if self.ramp < 0:
            raise UserError(f"ramp must be a number of epochs from 0, or a share of them below 1, got {ramp!r}")
        self.theta = nn.Parameter(torch.ones(()))
        self.set_epoch(0, 1)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Move to the strength of this epoch."""
        super().set_epoch(epoch, epochs)
        risen = min((epoch + 1) / whole_epochs(self.ramp, epochs), 1.0) if self.ramp else 1.0
        self.strength = self.reversal * 0.5 * (1 - math.cos(math.pi * risen))

    @property
    def temperature(self) -> Tensor:
        """T, with a gradient to θ that is reversed and scaled by the strength."""
        theta = (1 + self.strength) * self.theta.detach() - self.strength * self.theta
        return self.lowest + (self.highest - self.lowest) * theta.sigmoid()

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (R, C) on both sides → (R,)."""
        return kd_rows(student_logits, teacher_logits, self.temperature)
