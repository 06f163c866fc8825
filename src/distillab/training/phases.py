"""Applies a strategy's phases to a module: the parameters that each one trains, and the learning rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import lightning as L
import torch
from torch import nn

from distillab.core.recipe import Recipe
from distillab.models.trace import evaluation_mode
from distillab.strategies.phase import Phase
from distillab.strategies.strategy import Strategy
from distillab.training.optimizer import lr_factor

if TYPE_CHECKING:
    from distillab.training.module import Distillation


class Phased(L.LightningModule):
    """A module that trains by the phases of its strategy; a subclass sets the attributes."""

    student: nn.Module
    strategy: Strategy
    recipe: Recipe
    phase: Phase  # the current one
    phases: Sequence[Phase]  # over the trainer's epochs
    rates: Mapping[Phase, Recipe]  # the recipe with each one's rate
    trainable: Sequence[nn.Parameter]  # those that any of the phases may train
    _reachable: Mapping[Phase, set[nn.Parameter]]

    def _enter(self, phase: Phase) -> None:
        """Require gradients of exactly the phase's parameters."""
        self.phase = phase
        for parameter in self.trainable:
            parameter.requires_grad_(parameter in self._reachable[phase])
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to train mode; a student that the phase does not train keeps its BatchNorm statistics."""
        super().train(mode)
        if self.phase.train == "connectors":
            self.student.eval()
        return self

    def on_train_start(self) -> None:
        """Enter the phase of the epoch in which training starts or resumes."""
        self._to_epoch(self.current_epoch)
        self._announce()

    def on_train_epoch_start(self) -> None:
        """Enter a new phase, if one begins."""
        before = self.phase
        self._to_epoch(self.current_epoch)
        if self.phase is not before:
            self._announce()
        if self.phase.start == self.current_epoch > 0 and self.phase.fresh:
            self.optimizers(use_pl_optimizer=False).state.clear()

    def _to_epoch(self, epoch: int) -> None:
        for term in self.strategy.terms.values():
            term.set_epoch(max(epoch - self.before, 0), self.trainer.max_epochs - self.before)
        phase = next(p for p in reversed(self.phases) if p.start <= epoch)
        if phase is not self.phase:
            self._enter(phase)
            wrapper = self.trainer.strategy
            if isinstance(wrapper.model, nn.parallel.DistributedDataParallel):  # it has the old phase's parameters
                wrapper.model = wrapper.model.module
                wrapper.configure_ddp()

    @property
    def before(self) -> int:
        """The epochs before those of the recipe, with which the schedules of terms begin."""
        return sum(phase.epochs for phase in self.phases if phase.extra)

    @property
    def numbered(self) -> dict[str, float]:
        """The number of the current phase, from 1, as `phase`; empty if there is only one."""
        return {"phase": float(self.phases.index(self.phase) + 1)} if len(self.phases) > 1 else {}

    def _announce(self) -> None:
        if len(self.phases) > 1:
            self.print(
                f"phase {self.phases.index(self.phase) + 1} of {len(self.phases)}, epochs {self.phase.start + 1} to "
                f"{self.phase.start + self.phase.epochs}: {', '.join(self.phase.terms)} → {self.phase.train}"
            )

    @property
    def all_batches(self) -> float:
        """The batches of the whole fit."""
        trainer = self.trainer
        batches, accumulate = trainer.num_training_batches, trainer.accumulate_grad_batches
        if trainer.max_steps < 0 or math.isinf(batches):
            return trainer.max_epochs * batches
        whole, rest = divmod(trainer.max_steps, math.ceil(batches / accumulate))
        return min(trainer.max_epochs * batches, whole * batches + rest * accumulate)

    @property
    def length(self) -> float:
        """The epochs of the whole fit, with the share of the last one where steps cut it."""
        every = self.trainer.num_training_batches
        return self.trainer.max_epochs if math.isinf(every) else self.all_batches / every

    def _set_rate(self, batch_idx: int) -> None:
        """Set the phase's learning rate by the position in its schedule, which one that starts afresh restarts.

        Not a scheduler: one asks for the number of steps before a checkpoint is restored, and Lightning then sets the
        loader up too early to restore its position in the epoch.
        """
        starts = [phase.start for phase in self.phases if phase.fresh or phase.start == 0]
        start = max(epoch for epoch in starts if epoch <= self.current_epoch)
        end = min((epoch for epoch in starts if epoch > start), default=self.length)
        epochs = self.current_epoch + batch_idx / self.trainer.num_training_batches - start
        recipe = self.rates[self.phase]
        for group in self.optimizers(use_pl_optimizer=False).param_groups:
            group["lr"] = recipe.peak_lr * lr_factor(recipe, epochs / (end - start))


def reachable_parameters(module: "Distillation", phase: Phase) -> set[nn.Parameter]:
    """The trainable parameters that a phase trains and its loss depends on: DDP would wait forever for any other."""
    batch = module.example_batch(module.strategy.num_views)
    for parameter in module.trainable:
        parameter.requires_grad_(True)
    with evaluation_mode(module), torch.enable_grad():
        loss = sum(module.losses(batch, phase.terms).values())
    gradients = torch.autograd.grad(loss, module.trainable, allow_unused=True)
    students = set(module.student.parameters())
    allowed = {"both": (True, True), "student": (True, False), "connectors": (False, True)}[phase.train]
    return {
        parameter
        for parameter, gradient in zip(module.trainable, gradients, strict=True)
        if gradient is not None and allowed[0 if parameter in students else 1]
    }


def shared_parameters(module: "Distillation", phase: Phase) -> list[nn.Parameter]:
    """The parameters of a phase that its task terms and its distil terms reach."""
    terms = module.strategy.terms
    kinds = [tuple(name for name in phase.terms if terms[name].kind == kind) for kind in ("task", "distil")]
    if not all(kinds):
        return []
    task, distil = (reachable_parameters(module, replace(phase, terms=names)) for names in kinds)
    return [parameter for parameter in module.trainable if parameter in task & distil]
