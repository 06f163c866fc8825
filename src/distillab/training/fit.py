"""The fit of every network: teachers, baselines and students."""

import io
import sys
import time
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar

from distillab.core import distributed
from distillab.core.configuration import TrainerConfig
from distillab.core.distributed import share, world
from distillab.core.files import plain, replacing, writable
from distillab.core.output import is_quiet, rank_zero_print, rank_zero_warn
from distillab.core.recipe import Protocol, Recipe
from distillab.core.result_parts import Training
from distillab.data.module import DataModule
from distillab.training.callbacks import Compiled, Curves, CutEpoch, StopCleanly, StopEarly
from distillab.training.module import Distillation
from distillab.training.step_timer import StepTimer


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint completely or not at all: a full disk or a kill leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write through a temporary file."""
        content = io.BytesIO()  # torch.save itself would turn a full disk into an error without a name
        torch.save(checkpoint, content)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


def fit(
    module: Distillation,
    data: DataModule,
    *,
    recipe: Recipe,
    protocol: Protocol,
    trainer: TrainerConfig,
    directory: Path,
    title: str,
    logger: Any = None,
) -> Training:
    """Train a module, or resume an earlier call, and load the weights that `protocol` selects.

    `data` are configured for this fit, `directory` takes best.ckpt and last.ckpt, and `title` names the network in the
    printed lines. Returns the seconds of this call; epochs, curves and the figures of `StepTimer` of all calls; the
    selected epoch. Raises UserError where the loss is not finite, or the folder cannot be written.
    """
    start = distributed.broadcast(_start(directory, protocol.select, title) if distributed.rank == 0 else None)
    resumed = start is not None
    curves, times = Curves(title), StepTimer()
    # The stop comes last, since it saves the state of the others.
    callbacks = [curves, times, CutEpoch(), StopCleanly(directory / "last.ckpt")]
    callbacks += _choosing(module, recipe, trainer, directory)
    epochs = data.epochs(recipe, trainer.limit_train_batches)
    extra = module.strategy.whole(epochs) - epochs
    steps = recipe.steps and recipe.steps + extra * recipe.steps_of(data.batches(recipe, trainer.limit_train_batches))
    length = {"max_epochs": epochs + extra, "max_steps": steps or -1}
    engine = make_trainer(recipe, trainer, directory, callbacks=callbacks, logger=logger or False, **length)
    share(recipe.batch_size, engine.world_size, title)
    if resumed:
        rank_zero_print(f"  {title}  goes on from {start}")
    started = time.perf_counter()
    with writable(directory, "paths.runs=… paths.store=…"):
        engine.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    seconds = time.perf_counter() - started
    epoch = load_weights(module, directory / f"{protocol.select}.ckpt")
    figures = plain({"curves": curves.epochs, **times.figures})
    figures |= {"epochs": len(curves.epochs), "steps": engine.global_step if recipe.steps else None}
    return Training(seconds=seconds, epoch=epoch, resumed=resumed, **figures)


def _start(directory: Path, select: str, title: str) -> Path | None:
    """The checkpoint from which a fit goes on: the last, or the best where that is damaged; None starts over."""
    last, best = directory / "last.ckpt", directory / "best.ckpt"
    read = {path: _content(path) for path in (last, best) if path.exists()}
    callbacks = (read.get(last) or {}).get("callbacks", {}).values()
    gone = best not in read and any(state.get("best_model_score") is not None for state in callbacks)
    damaged = [path for path, content in read.items() if content is None] + [best] * gone
    if not damaged:
        return last if last in read else None
    # Without the best one so far, the best of the epochs that are left may be another.
    start = None if best in damaged and select == "best" else next((path for path in read if read[path]), None)
    how = f"goes on from {start}" if start else "starts over"
    rank_zero_warn(f"{' and '.join(map(str, damaged))} cannot be read, damaged or gone: {title} {how}")
    return start


def _content(path: Path) -> dict[str, Any] | None:
    """A checkpoint's content, mapped; None where its checksums do not hold, or it is none."""
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        content = torch.load(path, "cpu", weights_only=True, mmap=True)
        return content if {"state_dict", "loops", "epoch"} <= content.keys() else None
    except Exception:  # noise may be taken for nearly anything
        return None


def _choosing(module: Distillation, recipe: Recipe, trainer: TrainerConfig, directory: Path) -> list[Callback]:
    """The callbacks that save the best and the last epoch, stop early, and compile."""
    monitor, mode = module.task.monitor, module.task.mode
    common = {"dirpath": directory, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = ModelCheckpoint(filename="best", monitor=monitor, mode=mode, save_top_k=1, **common)
    callbacks: list[Callback] = [best, ModelCheckpoint(filename="last", **common)]
    if recipe.patience is not None:
        callbacks.append(StopEarly(monitor, mode=mode, patience=recipe.patience))
    if trainer.compile:
        callbacks.append(Compiled(trainer.compile))
    return callbacks


def make_trainer(recipe: Recipe, trainer: TrainerConfig, directory: Path, **arguments: Any) -> L.Trainer:
    """Lightning's trainer, for these callbacks and other arguments of its own."""
    bar = trainer.progress_bar and not is_quiet() and sys.stdout is not None and sys.stdout.isatty()
    if bar:
        arguments["callbacks"].append(TQDMProgressBar(leave=False))
    return L.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        num_nodes=trainer.num_nodes,
        strategy=trainer.strategy,
        precision=recipe.precision,
        sync_batchnorm=trainer.sync_batchnorm,
        deterministic=trainer.deterministic,
        gradient_clip_val=recipe.clip,
        accumulate_grad_batches=recipe.accumulate,
        limit_train_batches=trainer.limit_train_batches,
        limit_val_batches=trainer.limit_val_batches,
        log_every_n_steps=trainer.log_every_n_steps,
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our loader already gives every rank its slice of the global batch
        default_root_dir=directory,
        # One process is one process, also in a Slurm allocation of several tasks, which Lightning would take for its own.
        plugins=[WholeCheckpoints(), *([] if world > 1 else [LightningEnvironment()])],
        **arguments,
    )


def load_weights(module: Distillation, file: Path) -> int:
    """Load a checkpoint's weights; its epoch, from 1."""
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return checkpoint["epoch"] + 1
