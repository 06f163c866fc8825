"""The settings that all fits of a run share."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from distillab.core.configuration import TrainerConfig
from distillab.core.recipe import Protocol, Recipe
from distillab.data.module import DataModule
from distillab.schemes.store import Store
from distillab.tasks.base import Task


@dataclass(frozen=True)
class Setting:
    """Store, protocol, trainer and task of a run."""

    store: Store
    protocol: Protocol
    trainer: TrainerConfig
    task: Task

    @property
    def device(self) -> str:
        """The device that evaluates trained models."""
        return "cuda" if torch.cuda.is_available() and self.trainer.accelerator != "cpu" else "cpu"

    def configured(self, data: DataModule, recipe: Recipe, seed: int, num_views: int = 1) -> DataModule:
        """The data for one fit."""
        watch = self.protocol.watches
        return data.configure(recipe.batch_size, seed, num_views=num_views, watch=watch, accumulate=recipe.accumulate)

    def words(self, scores: Mapping[str, float]) -> str:
        """The primary figure by split, in words."""
        figures = (f"{self.task.text(value)} on {split}" for split, value in scores.items())
        return f"{self.task.label} {', '.join(figures)}"
