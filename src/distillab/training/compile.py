"""The step through torch.compile: the networks as the step runs them, not as they are validated, saved or exported."""

from __future__ import annotations

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from distillab.core.distributed import rank_zero_print


class Compiled(Callback):
    """Compiles what a module's step runs, once the step's hooks are set and its phases are laid out.

    Args:
        choice: `student` (every network that is trained) or `both` (a live teacher too).
    """

    def __init__(self, choice: str) -> None:
        self.choice = choice

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compile; the first step then takes longer."""
        torch.compiler.reset()  # after a few networks of one class torch would give up, and run the next as it is
        for extractor in pl_module.extractors:
            extractor.compile()
        if self.choice == "both" and pl_module.teacher is not None and not pl_module.teacher.compile_network():
            rank_zero_print("trainer.compile=both: this scheme's teacher runs as it is")
