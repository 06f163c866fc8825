"""Recipes: optimiser, schedule, epochs and batch, the numbers that only make sense together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from distillab.commands.composition import did_you_mean
from distillab.core.errors import UserError
from distillab.training.dot import DOT

OPTIMIZERS = ("sgd", "adamw", "dot")
SCHEDULES = ("one_cycle", "cosine", "step", "constant")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step, over all devices together.
        optimizer: sgd, adamw, or dot, which is sgd with two momenta (see `distillab.training.dot`).
        lr: the highest learning rate.
        linear_lr: images per optimiser step for which `lr` is meant; with more or fewer it is scaled in proportion
            (arXiv 1706.02677). None takes `lr` as it is.
        momentum: of sgd, and the middle of dot's two.
        nesterov: of sgd.
        dot_delta: dot's distance of both momenta from the middle.
        weight_decay: on all parameters, or on weights only (`decay_norms=False` spares biases and normalisation).
        schedule: one_cycle, cosine, step or constant.
        warmup: share of the steps in which the rate rises to `lr`.
        milestones: shares of the steps after which a step schedule multiplies by `gamma`.
        clip: largest gradient norm; None does not clip.
        accumulate: batches per optimiser step.
        patience: epochs without a better validation accuracy after which the fit stops, counted from the start of the
            strategy's last phase; None never stops early.
        precision: Lightning's, e.g. 32-true, bf16-mixed, 16-mixed.
    """

    epochs: int = 8
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 3e-3
    linear_lr: int | None = None
    momentum: float = 0.9
    nesterov: bool = False
    dot_delta: float = 0.075
    weight_decay: float = 0.01
    decay_norms: bool = False
    schedule: str = "one_cycle"
    warmup: float = 0.3
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    gamma: float = 0.1
    clip: float | None = None
    accumulate: int = 1
    patience: int | None = None
    precision: str = "32-true"

    @classmethod
    def of(cls, config: Recipe | Mapping[str, Any] | None, path: str = "recipe") -> Recipe:
        """Check a config.

        Raises:
            UserError: an unknown key, or a number out of its range.
        """
        if isinstance(config, cls):
            return config
        known = [field.name for field in fields(cls)]
        for key in config or {}:
            if key not in known:
                raise UserError(f'{path} has no "{key}"{did_you_mean(key, known)} (allowed: {", ".join(known)})')
        recipe = cls(**{k: tuple(v) if k == "milestones" else v for k, v in (config or {}).items()})
        for key in ("epochs", "batch_size", "accumulate", "linear_lr"):
            value = getattr(recipe, key)
            if value is None and key == "linear_lr":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{path}.{key} must be a whole number from 1, got {value!r}")
        for key in ("lr", "momentum", "dot_delta", "weight_decay", "warmup", "gamma"):
            value = getattr(recipe, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UserError(f"{path}.{key} must be a number from 0, got {value!r}")
        for key, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(recipe, key) not in allowed:
                raise UserError(f'{path}.{key} must be one of {", ".join(allowed)}, got "{getattr(recipe, key)}"')
        if recipe.optimizer == "dot":
            recipe._check_dot(path)
        return recipe

    def _check_dot(self, path: str) -> None:
        for key, refused, instead in (
            ("nesterov", self.nesterov, "false"),
            ("clip", self.clip, "null"),
            ("precision", self.precision in ("16", "16-mixed"), "bf16-mixed"),
        ):
            if refused:
                raise UserError(f"{path}.optimizer=dot takes no {key}={getattr(self, key)}; set {path}.{key}={instead}")
        if not self.momentum - self.dot_delta >= 0 or not self.momentum + self.dot_delta < 1:
            raise UserError(
                f"{path}.momentum={self.momentum:g} minus and plus {path}.dot_delta must lie from 0 to below 1, got "
                f"{path}.dot_delta={self.dot_delta:g}"
            )

    @property
    def peak_lr(self) -> float:
        """The highest learning rate, for the images that an optimiser step sees."""
        return self.lr if self.linear_lr is None else self.lr * self.batch_size * self.accumulate / self.linear_lr

    @property
    def alone(self) -> Recipe:
        """The same without a teacher, where dot is sgd: one gradient, one momentum, no number of dot's."""
        optimizer = "sgd" if self.optimizer == "dot" else self.optimizer
        return replace(self, optimizer=optimizer, dot_delta=Recipe.dot_delta)


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe.

    All parameters are in it from the first step; one without a gradient (frozen in a phase) is passed over.
    """
    parameters = list(parameters)
    weights = [p for p in parameters if p.ndim > 1 or recipe.decay_norms]
    spared = [p for p in parameters if p.ndim <= 1 and not recipe.decay_norms]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    # Lightning cannot clip a fused optimiser's gradients in half precision.
    fused = recipe.clip is None
    if recipe.optimizer == "dot":
        return DOT(groups, recipe.peak_lr, recipe.momentum, recipe.dot_delta)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.peak_lr, recipe.momentum, nesterov=recipe.nesterov, fused=fused)
    return torch.optim.AdamW(groups, recipe.peak_lr, fused=fused)


def lr_factor(recipe: Recipe, passed: float) -> float:
    """The share of `lr` that a step learns with: a pure function, so a resume needs no state.

    Args:
        recipe: its schedule.
        passed: share of the schedule that lies behind, from 0 to below 1.
    """
    # 1) while it warms up: one_cycle along a half cosine from lr / 25, cosine in a line
    if recipe.schedule in ("one_cycle", "cosine") and passed < recipe.warmup:
        risen = passed / recipe.warmup
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * risen)) if recipe.schedule == "one_cycle" else risen
    # 2) while it falls
    if recipe.schedule in ("one_cycle", "cosine"):
        fallen = (passed - recipe.warmup) / max(1 - recipe.warmup, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * fallen))
    # 3) where it stands, or falls by steps
    if recipe.schedule == "step":
        return recipe.gamma ** sum(passed >= share for share in recipe.milestones)
    return 1.0
