"""Callbacks of a fit: the curves with a printed line per epoch, early stopping, compilation, and a clean stop."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from distillab.core.output import rank_zero_print
from distillab.core.stopping import SAME, Stopped, listen

AGREE = 10  # batches between two checks whether any of several GPUs' processes was asked to stop


class StopEarly(EarlyStopping):
    """Early stopping that counts from the last phase on: in the ones before, the student may learn nothing yet."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Check the watched figure."""
        if trainer.current_epoch >= pl_module.phases[-1].start:
            super().on_train_epoch_end(trainer, pl_module)


class Curves(Callback):
    """Stores every epoch's figures, over a stop and a resume; with a `title`, which opens it, prints a line for each.

    `epochs` has for each one `epoch` (from 1), `train/loss`, `train/<term>`, all validated figures as `val/<name>`,
    `seconds`; `phase` (from 1) if the strategy has several.
    """

    def __init__(self, title: str | None = None) -> None:
        self.title = title
        self.epochs: list[dict[str, float]] = []
        self._before = 0.0  # seconds of the epoch before an earlier call stopped in it
        self._started: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The epochs so far, and the seconds of an unfinished one."""
        return {"epochs": list(self.epochs), "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from these."""
        self.epochs, self._before = list(state_dict["epochs"]), state_dict["seconds"]

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the timer, here too since a resumed epoch has no start of its own."""
        self._started = time.perf_counter()

    on_train_epoch_start = on_train_start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Print and add the epoch."""
        losses = pl_module.mean_losses()
        if self.title is not None:
            self._print(trainer, losses)
        means = torch.stack(list(losses.values()))  # read together: the host waits for the device once
        means = trainer.strategy.reduce(means, reduce_op="mean").tolist()
        named = {f"train/{name}": value for name, value in zip(losses, means, strict=True)}
        validated = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        figures = {**named, **validated, **pl_module.numbered, "seconds": self._seconds()}
        self.epochs.append({"epoch": trainer.current_epoch + 1, **figures})
        self._before, self._started = 0.0, None

    def _print(self, trainer: L.Trainer, losses: dict[str, torch.Tensor]) -> None:
        parts = [f"{name} {losses[name]:.4g}" for name in losses if len(losses) > 2 or name == "loss"]
        task = trainer.lightning_module.task
        score = trainer.callback_metrics.get(task.monitor)
        split = "test" if trainer.datamodule.watch == "test" else "val"  # protocol=paper watches the test
        watched = f"  {split} {task.text(float(score)):>7}" if score is not None else ""
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if trainer.max_steps >= 0:
            epoch += f", step {trainer.global_step}/{trainer.max_steps}"
        seconds = time.perf_counter() - self._started
        rank_zero_print(f"  {self.title}  {epoch}{watched}  {', '.join(parts)}  {seconds:.1f} s")

    def _seconds(self) -> float:
        return self._before + (time.perf_counter() - self._started if self._started is not None else 0.0)


class Compiled(Callback):
    """Compiles the networks as the step runs them, not as they are validated, saved or exported.

    The `choice` is `student` (every network that is trained) or `both` (a live teacher too).
    """

    def __init__(self, choice: str) -> None:
        self.choice = choice

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Compile, after the step's hooks and phases are set; the first step then takes longer."""
        torch.compiler.reset()  # after a few networks of one class torch would give up, and run the next as it is
        for extractor in pl_module.extractors:
            extractor.compile()
        if self.choice == "both" and pl_module.teacher is not None and not pl_module.teacher.compile_network():
            rank_zero_print("trainer.compile=both: this scheme's teacher runs as it is")


class CutEpoch(Callback):
    """Ends the last epoch behind the trainer's last step, wherever that falls: it is validated and saved as any other."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ask for the end; Lightning by itself would leave out the validation."""
        trainer.should_stop |= trainer.global_step == trainer.max_steps


class StopCleanly(Callback):
    """On the first signal finishes the current step, saves the state to `checkpoint`, and stops; on a second one at once.

    Lightning puts the handlers of before back when its fit ends.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.asked: int | None = None  # the signal
        self.since = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Replace Lightning's signal handlers, which stop without a message."""
        listen(self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and time.monotonic() - self.since < SAME:
            return
        if self.asked:
            raise Stopped("stopped at once, the checkpoint of the last epoch is kept", number)
        self.asked, self.since = number, time.monotonic()
        rank_zero_print("stopping after this step; press Ctrl-C again to stop at once, without saving")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop, if asked; after an epoch's last step its validation comes first, or a resume would skip it."""
        # Several processes must agree, for which the host waits for the devices: not after every step.
        checks = pl_module.device.type == "cpu" or trainer.world_size == 1 or trainer.global_step % AGREE == 0
        # No checkpoint holds half a step's gradient.
        whole_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        last = trainer.is_last_batch or trainer.should_stop
        if checks and whole_step and not last and self._agreed(trainer):
            trainer.save_checkpoint(self.checkpoint)
            self._stop(f"stopped in epoch {trainer.current_epoch + 1} after batch {batch_idx + 1}")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Stop, if asked: the checkpoint of the epoch before has been saved."""
        if self._agreed(trainer):
            self._stop(f"stopped before epoch {trainer.current_epoch + 1}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Stop, if asked in the last epoch: it is saved, and nothing else is to begin."""
        if self._agreed(trainer):
            self._stop("stopped after the last epoch")

    def _stop(self, text: str) -> None:
        raise Stopped(text, self.asked) if self.asked else Stopped(text)

    def _agreed(self, trainer: L.Trainer) -> bool:
        """Whether any process was asked to stop."""
        if trainer.world_size == 1:
            return bool(self.asked)
        return trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False)
