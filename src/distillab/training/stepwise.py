"""Fits whose steps are taken one at a time, so that those of two fits can be timed in turns."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import lightning as L
import numpy as np

from distillab.core import distributed
from distillab.core.configuration import TrainerConfig
from distillab.data.batch import Batch
from distillab.data.loader import Loader
from distillab.data.module import DataModule
from distillab.training.fit import make_trainer
from distillab.training.module import Distillation

FEWEST, ROUNDS = 7, 40  # of timed steps: the most, and the fewest where time allows
SECONDS = 5.0  # after which no further round begins
AGREE = 0.01  # the share that the standard error of a median may have; more rounds follow until it is reached
BLOCK = 0.05  # seconds that a way to step is timed at once: what others take of the machine falls on all ways alike
MOST = 8  # steps in a block at most
STEPS = 10**6  # that an epoch of one batch has: no schedule comes to its end

Found = TypeVar("Found")


class OneBatch(L.LightningDataModule):
    """The first batch of a fit's data, loaded and augmented anew for every step."""

    def __init__(self, data: DataModule) -> None:
        super().__init__()
        self.data, self.mixes, self.writing = data, data.mixes, data.writing
        self.teacher_answers, self.training_labels = data.teacher_answers, data.training_labels

    def train_dataloader(self) -> "Repeated":
        """The batch, without end."""
        return Repeated(self.data.train_dataloader())

    def evaluation_dataloader(self, split: str) -> Iterator[Batch] | Loader:
        """What terms look at beforehand: one batch, or all samples where the teacher must label each of them."""
        loader = self.data.evaluation_dataloader(split)
        return loader if self.teacher_answers else islice(loader, 1)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The views, as in a fit."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


class Repeated:
    """A loader of one batch."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        return self.loader.repeated()


class StepwiseFit:
    """A fit from an epoch on, by Lightning's own loop: a step is all from the loading of its batches to the optimiser.

    The learning rate is 0: steps cost the same, and the weights stay what they are.
    """

    def __init__(
        self, module: Distillation, data: DataModule, trainer: TrainerConfig, *, epochs: int, epoch: int = 0
    ) -> None:
        module.recipe = replace(module.recipe, lr=0.0)
        quiet = replace(trainer, limit_train_batches=None, progress_bar=False)
        self.module, self.data = module, OneBatch(data)
        self.engine = make_trainer(
            module.recipe, quiet, Path(), callbacks=[], logger=False, enable_checkpointing=False, max_epochs=epochs
        )
        self.loop = self.engine.fit_loop
        self.loop.epoch_progress.current.processed = epoch

    def during(self, inside: Callable[[], Found]) -> Found:
        """What `inside` returns, which is called once the first step can be taken, and may take steps."""
        found = []

        def advance() -> None:
            self.loop.epoch_loop.reset()
            self.loop.epoch_loop.on_run_start(self.loop._data_fetcher)
            found.append(inside())
            raise StopIteration  # the loop's own way to end

        self.loop.advance = advance
        try:
            with warnings.catch_warnings(action="ignore"):  # of a fit without validation
                self.engine.fit(self.module, datamodule=self.data)
        finally:
            self.module.release()
        return found[0]

    def step(self) -> None:
        """Take an optimiser step, with all batches that it accumulates."""
        for _ in range(self.engine.accumulate_grad_batches):
            self.loop.epoch_loop.advance(self.loop._data_fetcher)
            self.loop.epoch_loop.on_advance_end(self.loop._data_fetcher)


@dataclass(frozen=True)
class Timed:
    """Median seconds of a step of the first way, the median cost of the others in such steps, and the number of rounds."""

    seconds: float
    ratios: dict[str, float]
    rounds: int


def alternate(
    ways: Mapping[str, Callable[[], None]],
    *,
    seconds: float | None = None,
    clock: Callable[[], float] = perf_counter,
    wait: Callable[[], None] = lambda: None,
) -> Timed:
    """Time ways to take a step in turns, until the ratios are known or `seconds` are over: one round at least.

    In a round each way is timed over a block of steps, in the other order every second time; the ratios are those within
    a round, so that a machine which is busy for a while slows down both sides of a ratio. A first step of each is not
    counted. `clock` tells seconds, `wait` waits for the device.
    """
    began, limit = perf_counter(), SECONDS if seconds is None else seconds
    spent = partial(_spent, clock=clock, wait=wait)
    first, *others = ways
    counts = {name: min(max(round(BLOCK / max(spent(step, 1), 1e-6)), 1), MOST) for name, step in ways.items()}
    counts = distributed.broadcast(counts)  # several processes step together
    own: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in others}
    while not own or distributed.broadcast(perf_counter() - began < limit and not _known(ratios)):
        order = list(ways) if len(own) % 2 else list(reversed(ways))
        took = {name: spent(ways[name], counts[name]) for name in order}
        own.append(took[first])
        for name in others:
            ratios[name].append(took[name] / took[first])
    return Timed(median(own), {name: median(found) for name, found in ratios.items()}, len(own))


def _known(ratios: Mapping[str, list[float]]) -> bool:
    """Whether there are ratios enough that the standard errors of their medians are small."""
    count = len(next(iter(ratios.values())))
    if not FEWEST <= count < ROUNDS:
        return count >= ROUNDS
    low, middle, high = np.quantile(list(ratios.values()), (0.25, 0.5, 0.75), axis=1)
    # Of normal values: the deviation is the quartiles' distance / 1.35, a median's error 1.25 times a mean's.
    return bool((1.25 * (high - low) / 1.35 / count**0.5 <= AGREE * middle).all())


def _spent(step: Callable[[], None], count: int, *, clock: Callable[[], float], wait: Callable[[], None]) -> float:
    """Seconds of one of `count` steps."""
    wait()
    began = clock()
    for _ in range(count):
        step()
    wait()
    return (clock() - began) / count
