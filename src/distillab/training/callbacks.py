"""What happens around the steps: a line and a point of the curves per epoch, and an orderly stop on Ctrl-C."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from distillab.core.distributed import rank_zero_print

AGREE = 10  # steps between two questions of several GPUs' processes to each other


class Interrupted(BaseException):
    """Training was stopped by the user, and its state is saved. A BaseException: nothing may swallow it."""


class EpochLines(Callback):
    """One line per epoch: loss, watched accuracy, seconds.

    Args:
        title: who is training.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the timer: an epoch that goes on in its middle does not start again."""
        self.started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the timer."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Print the line."""
        seconds = time.perf_counter() - self.started
        losses = pl_module.mean_losses()
        parts = [f"{name} {losses[name]:.4g}" for name in losses if len(losses) > 2 or name == "loss"]
        score = trainer.callback_metrics.get(pl_module.task.monitor)
        watched = f"  val {pl_module.task.text(float(score)):>7}" if score is not None else ""
        rank_zero_print(
            f"  {self.title}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{watched}  {', '.join(parts)}  {seconds:.1f} s"
        )


class StopEarly(EarlyStopping):
    """Early stopping that counts from the last phase on: in the ones before, the student may learn nothing yet."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the watched figure, and stop where it has not grown for so long."""
        if trainer.current_epoch >= pl_module.phases[-1].start:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Likewise, where Lightning validates at other times than at the end of an epoch."""
        if trainer.current_epoch >= pl_module.phases[-1].start:
            super().on_validation_end(trainer, pl_module)


class Curves(Callback):
    """Keeps every epoch's figures, those of a run that was stopped and goes on too.

    Attributes:
        epochs: for each one `epoch` (from 1), `train/loss`, `train/<term>`, `val/top1` and what else was validated,
            `seconds`; `phase` (from 1) where the strategy has several.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self._before = 0.0  # seconds that the epoch had taken when an earlier call stopped in it
        self._started: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The epochs so far, and the seconds of one that is not over."""
        return {"epochs": list(self.epochs), "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.epochs, self._before = list(state_dict["epochs"]), state_dict["seconds"]

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the timer: an epoch that goes on does not start."""
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the timer."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Add the epoch."""
        losses = pl_module.mean_losses()
        means = torch.stack(list(losses.values()))  # read together: the host waits for the device once
        means = trainer.strategy.reduce(means, reduce_op="mean").tolist()
        named = {f"train/{name}": value for name, value in zip(losses, means, strict=True)}
        judged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        figures = {**named, **judged, **pl_module.numbered, "seconds": self._seconds()}
        self.epochs.append({"epoch": trainer.current_epoch + 1, **figures})
        self._before, self._started = 0.0, None

    def _seconds(self) -> float:
        return self._before + (time.perf_counter() - self._started if self._started is not None else 0.0)


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
        rank_zero_print("stopping after this step; press Ctrl-C again to stop at once, without saving")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop, if asked; after an epoch's last step its validation comes first, or a resume would skip it."""
        # Several processes must agree, for which the host waits for the devices: not after every step.
        asks = pl_module.device.type == "cpu" or trainer.world_size == 1 or batch_idx % AGREE == AGREE - 1
        if asks and not trainer.is_last_batch and self._agreed(trainer):
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted(f"stopped in epoch {trainer.current_epoch + 1} after batch {batch_idx + 1}")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Stop, if asked: the checkpoint of the epoch before has been saved."""
        if self._agreed(trainer):
            raise Interrupted(f"stopped before epoch {trainer.current_epoch + 1}")

    def _agreed(self, trainer: L.Trainer) -> bool:
        """Whether any process was asked to stop."""
        if trainer.world_size == 1:
            return self.asked
        return trainer.strategy.reduce_boolean_decision(self.asked, all=False)

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
