"""What happens around the steps: a line per epoch, and an orderly stop on Ctrl-C."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from distillab.distributed import say


class Interrupted(BaseException):
    """Training was stopped by the user, and its state is saved. A BaseException: nothing may swallow it."""


class EpochLines(Callback):
    """One line per epoch: loss, watched accuracy, seconds.

    Args:
        title: who is training.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the clock."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Print the line."""
        seconds = time.perf_counter() - getattr(self, "started", time.perf_counter())
        losses = pl_module.mean_losses()
        parts = [f"{name} {losses[name]:.4g}" for name in losses if len(losses) > 2 or name == "loss"]
        top1 = trainer.callback_metrics.get("val/top1")
        watched = f"  val {100 * float(top1):5.2f} %" if top1 is not None else ""
        say(
            f"  {self.title}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{watched}  {', '.join(parts)}  {seconds:.1f} s"
        )


class StopCleanly(Callback):
    """On the first Ctrl-C (or SIGTERM) end the step in hand, save where training stands, and stop.

    Args:
        checkpoint: where the state goes.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.asked = False
        self.previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Listen to the signals, in Lightning's place: it would end without a word. Only a main thread can."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._ask)
        except ValueError:
            self.previous = {}

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("stopping after this step; press Ctrl-C again to stop at once, without saving")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop, if asked."""
        asked = (
            self.asked if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(self.asked, all=False)
        )
        if asked:
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted(f"stopped in epoch {trainer.current_epoch + 1} after batch {batch_idx + 1}")

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
