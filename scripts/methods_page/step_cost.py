"""What one training step of each method costs, measured on one pair of networks and made-up images."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from benchmark.loops import BATCH, CLASSES, SHAPE, network
from torch.utils.data import DataLoader

from distillab.core.output import rank_zero_print
from distillab.data.images.image_batch import ImageBatch
from distillab.models.image_model import ImageModel
from distillab.strategies.strategy import Strategy
from distillab.training.module import Distillation
from distillab.training.startup import import_quietly

TEACHER, STUDENT = "resnet32x4", "resnet8x4"
SAMPLES = 50_000
STEPS = 3  # the first one, which warms up, is not counted
EPOCHS = 240  # of the published recipe: how much each phase's step weighs


def models() -> list[ImageModel]:
    """The teacher and the student of the table, untrained."""
    return [network(TEACHER, "teacher"), network(STUDENT, "student")]


class RandomImages(L.LightningDataModule):
    """A few batches of noise with made-up labels, out of a training set that claims to be as large as CIFAR's."""

    def __init__(self, views: int) -> None:
        super().__init__()
        self.views = views
        self.training_labels = torch.arange(SAMPLES) % CLASSES

    def train_dataloader(self) -> DataLoader:
        """One batch per step."""
        draw = torch.Generator().manual_seed(0)
        rows = torch.arange(STEPS * BATCH).split(BATCH)
        views = [[torch.rand(BATCH, *SHAPE, generator=draw) for _ in range(self.views)] for _ in rows]
        batches = [ImageBatch.of(view, self.training_labels[row], row) for view, row in zip(views, rows, strict=True)]
        return DataLoader(batches, batch_size=None)

    def evaluation_dataloader(self, split: str) -> DataLoader:
        """The same."""
        return self.train_dataloader()

    def on_after_batch_transfer(self, batch: ImageBatch, dataloader_idx: int = 0) -> ImageBatch:
        """Nothing is augmented."""
        return batch


class StepTimer(L.Callback):
    """CPU seconds of each step (forward, loss, backward, optimiser), by epoch: other work on the machine is not in it."""

    def __init__(self) -> None:
        self.seconds: dict[int, list[float]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Start."""
        self.started = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop."""
        self.seconds.setdefault(trainer.current_epoch, []).append(time.process_time() - self.started)


def step_seconds(nodes: Mapping[str, Any]) -> float:
    """CPU seconds of the fastest of a few real training steps; with phases, their mean over the published epochs."""
    strategy = Strategy.of(nodes)
    epochs = strategy.whole(EPOCHS)
    shares = [phase.epochs / epochs for phase in strategy.plan(epochs)]
    if strategy.phases:
        strategy.phases = [{**phase, "epochs": 1} for phase in strategy.phases]
    teacher, student = models()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    timer = StepTimer()
    engine = L.Trainer(max_epochs=len(shares), accelerator="cpu", logger=False, callbacks=[timer], **quiet)
    module = Distillation(student, teacher, strategy)
    engine.fit(module, datamodule=RandomImages(strategy.num_views))
    return sum(share * min(timer.seconds[epoch][1:]) for epoch, share in enumerate(shares))


def measure(strategies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """CPU seconds of a step of every strategy on one thread, so that they are also the time it takes there.

    Args:
        strategies: the content of each file, by its name.

    Returns:
        `seconds` by strategy, and what of the machine matters for them: `threads`, `torch`.
    """
    import_quietly("cpu")
    torch.set_num_threads(1)
    seconds = {}
    for name, nodes in strategies.items():
        seconds[name] = round(step_seconds(nodes), 3)
        rank_zero_print(f"{name}: {seconds[name]:.2f} s")
    return {"threads": torch.get_num_threads(), "torch": torch.__version__.partition("+")[0], "seconds": seconds}
