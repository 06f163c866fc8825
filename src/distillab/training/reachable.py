"""Finds the parameters that a phase trains: DDP would wait forever for any other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from distillab.models.trace import evaluation_mode
from distillab.strategies.strategy import Phase

if TYPE_CHECKING:
    from distillab.training.module import Distillation


def reachable_parameters(module: Distillation, phase: Phase) -> set[nn.Parameter]:
    """The trainable parameters that a phase trains and its loss depends on."""
    batch = module.task.example_batch(module.student, module.strategy.num_views)
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


def shared_parameters(module: Distillation, phase: Phase) -> list[nn.Parameter]:
    """The parameters of a phase that its task terms and its distil terms reach."""
    terms = module.strategy.terms
    kinds = [tuple(name for name in phase.terms if terms[name].kind == kind) for kind in ("task", "distil")]
    if not all(kinds):
        return []
    task, distil = (reachable_parameters(module, replace(phase, terms=names)) for names in kinds)
    return [parameter for parameter in module.trainable if parameter in task & distil]
