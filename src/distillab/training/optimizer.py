"""The optimiser and the learning rates that a recipe describes."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from distillab.core.recipe import Recipe
from distillab.training.dot import DOT


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe over all parameters; it skips those without a gradient (frozen in a phase)."""
    parameters = list(parameters)
    weights = [p for p in parameters if p.ndim > 1 or recipe.decay_norms]
    spared = [p for p in parameters if p.ndim <= 1 and not recipe.decay_norms]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    # Lightning cannot clip a fused optimiser's gradients in half precision.
    fused = recipe.clip is None
    if recipe.optimizer == "dot":
        return DOT(groups, recipe.peak_lr, momentum=recipe.momentum, delta=recipe.dot_delta)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.peak_lr, recipe.momentum, nesterov=recipe.nesterov, fused=fused)
    return torch.optim.AdamW(groups, recipe.peak_lr, fused=fused)


def lr_factor(recipe: Recipe, passed: float) -> float:
    """The factor of the learning rate after a share `passed` (from 0 to below 1) of the recipe's schedule.

    A pure function, so that a resume needs no state.
    """
    # 1) warm-up: one_cycle along a half cosine from lr / 25, cosine in a line
    if recipe.schedule in ("one_cycle", "cosine") and passed < recipe.warmup:
        risen = passed / recipe.warmup
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * risen)) if recipe.schedule == "one_cycle" else risen
    # 2) decay
    if recipe.schedule in ("one_cycle", "cosine"):
        fallen = (passed - recipe.warmup) / max(1 - recipe.warmup, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * fallen))
    # 3) steps, or constant
    if recipe.schedule == "step":
        return recipe.gamma ** sum(passed >= share for share in recipe.milestones)
    return 1.0
