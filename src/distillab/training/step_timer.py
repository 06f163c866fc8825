"""Measures the seconds of a fit by part: teacher, data, student, validation."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

EVERY = 50  # steps between measured ones on a device that works asynchronously
FIRST = 1  # of the measured steps; the very first one also compiles and picks kernels


class StepTimer(Callback):
    """Sums the seconds of a fit by part, also over a stop and a resume.

    On the CPU every step is measured. On a GPU the host does not wait for the device, so every 50th step is measured
    with the device synchronised and represents the others; the rest of the loop is waiting for data. Each process has
    its own figures.
    """

    def __init__(self) -> None:
        self.totals: dict[str, float] = defaultdict(int)
        self.device = torch.device("cpu")
        self.measuring = False
        self._since = self._step_started = perf_counter()

    @property
    def figures(self) -> dict[str, Any]:
        """The figures for the record of a fit.

        `time`: seconds in `teacher` (its forward passes, or their replay), `writing` (of the student, where it does), `data` (waiting for a batch, its
        augmentation too), `student` (the rest of the step), `validation` and `other` (start, checkpoints);
        `teacher_seconds_computed`: of the forward passes alone; `teacher_samples_computed` and
        `teacher_samples_replayed`: teacher outputs, one per sample and view.
        """
        sums = self.totals
        scale = sums["steps"] / sums["measured_steps"] if sums["measured_steps"] else 0.0
        if scale:  # the measured steps cannot stand for more than the loop took
            scale = min(scale, sums["loop"] / sums["step_seconds"])
        teacher, step = scale * sums["teacher_seconds"], scale * sums["step_seconds"]
        each = sums["computing_seconds"] / sums["computing_samples"] if sums["computing_samples"] else 0.0
        writing = scale * sums["writing_seconds"] if "writing_seconds" in sums else None
        return {
            "time": {
                "teacher": teacher,
                **({} if writing is None else {"writing": writing}),
                "data": max(0.0, sums["loop"] - step),
                "student": step - teacher - (writing or 0.0),
                "validation": float(sums["validation"]),
                "other": float(sums["other"]),
            },
            "teacher_seconds_computed": each * sums["computed"],
            "teacher_samples_computed": int(sums["computed"]),
            "teacher_samples_replayed": int(sums["replayed"]),
        }

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return dict(self.totals)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from these."""
        self.totals |= state_dict

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Start the timer."""
        self._since = perf_counter()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Time the module's teacher."""
        self.device = pl_module.device
        pl_module.teacher_timer = partial(self._teacher, pl_module)
        pl_module.writing_timer = self._writing
        self._lap("other")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Count what came between two epochs, or at the epoch's end, before the checkpoint stores the sums."""
        self._lap("other")

    on_train_epoch_end = on_train_epoch_start

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the step: the batch has arrived."""
        self.measuring = self.device.type == "cpu" or self.totals["steps"] % EVERY == FIRST
        self._lap("loop", exact=self.measuring)
        self._step_started = self._since

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the step."""
        self._lap("loop", exact=self.measuring)
        self.totals["steps"] += 1
        if self.measuring:
            self.totals["measured_steps"] += 1
            self.totals["step_seconds"] += self._since - self._step_started

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """End the training steps before it."""
        self._lap("loop", exact=True)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """End the validation."""
        self._lap("validation", exact=True)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Stop the timer."""
        self._lap("other")
        pl_module.teacher_timer, pl_module.writing_timer = lambda samples: nullcontext(), nullcontext

    @contextmanager
    def _teacher(self, pl_module: Any, samples: int) -> Iterator[None]:
        """Time one call of the teacher, and count the computed outputs."""
        before = pl_module.teacher.replayed
        started = self._now(self.measuring)
        yield
        seconds = self._now(self.measuring) - started
        computed = samples - (pl_module.teacher.replayed - before)
        self.totals["computed"] += computed
        self.totals["replayed"] += samples - computed
        if self.measuring:
            self.totals["teacher_seconds"] += seconds
            if computed:
                self.totals["computing_seconds"] += seconds
                self.totals["computing_samples"] += computed

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Time the student while it writes a batch."""
        started = self._now(self.measuring)
        yield
        self.totals["writing_seconds"] += self._now(self.measuring) - started if self.measuring else 0

    def _lap(self, part: str, exact: bool = False) -> None:
        now = self._now(exact)
        self.totals[part] += now - self._since
        self._since = now

    def _now(self, exact: bool) -> float:
        """The time; if it is to be exact, after all work of the device."""
        if exact and self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return perf_counter()
