"""The loops that the benchmark compares: the usual one, the bare student, and distillab's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmark import usual
from benchmark.usual import BATCH, CLASSES, MEAN, SHAPE, STD, device, network
from distillab.core.configuration import CacheConfig, Paths, TrainerConfig
from distillab.core.recipe import Recipe
from distillab.data.images.datamodule import ImageCollection, ImageData
from distillab.schemes.cache import with_cache
from distillab.strategies.strategy import Strategy
from distillab.teachers.cached import CachedTeacher
from distillab.teachers.frozen import FrozenTeacher
from distillab.training.callbacks import Compiled
from distillab.training.module import Distillation
from distillab.training.startup import import_quietly

ROLES = ("teacher", "student")
WARMUP = 3  # steps that are not counted
STRATEGY = {
    "ce": {"_target_": "distillab.strategies.ce.CrossEntropy", "weight": 0.1},
    "kd": {"_target_": "distillab.strategies.kd.KD", "weight": 0.9, "temperature": usual.TEMPERATURE},
}


class Images(ImageData):
    """Images in memory, as the loops of this file share them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, **common: Any) -> None:
        super().__init__(name="benchmark", augment={"crop": 4, "flip": True}, mean=MEAN, std=STD, **common)
        self.pixels, self.labels = images, labels

    def _collect(self) -> ImageCollection:
        classes, rows = tuple(str(i) for i in range(CLASSES)), np.arange(len(self.labels))
        images = torch.from_numpy(self.pixels)
        size = {"channels": 3, "image_size": SHAPE[1]}
        return ImageCollection("benchmark", classes, self.labels, rows, rows[:1], rows[:1], images=images, **size)


class PILImages(Dataset):
    """The same images one by one through torchvision's PIL transforms."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels
        self.transform = usual.transform(augmented=True)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Timer(L.Callback):
    """Keeps the time at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the time."""
        tick(self.ends)


def tick(ends: list[float]) -> None:
    """Note the time, on a GPU after waiting for its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    ends.append(time.perf_counter())


@dataclass(frozen=True)
class Workload:
    """What every case trains.

    Attributes:
        pair: teacher and student.
        pixels, labels: of as many images as the steps take.
        steps: of each case, the warm-up among them.
        compiled: whether the student of (b) to (e) is compiled.
    """

    pair: tuple[str, str]
    pixels: np.ndarray
    labels: np.ndarray
    steps: int
    compiled: bool = False


@dataclass(frozen=True)
class Timing:
    """When a case's steps ended.

    Attributes:
        ends: the time at the end of every step.
        cache: seconds of opening the cache (with its checksums) and of writing the teacher's outputs of all steps.
    """

    ends: Sequence[float]
    cache: float = 0.0

    @property
    def images_per_second(self) -> float:
        """From the median time between two steps, which other work on the machine hardly changes, and each step's
        share of the cache's seconds."""
        counted = zip(self.ends[WARMUP:-1], self.ends[WARMUP + 1 :], strict=True)
        return BATCH / (statistics.median(b - a for a, b in counted) + self.cache / len(self.ends))


def cases(load: Workload, root: Path) -> dict[str, Callable[[], Timing]]:
    """The cases by name, in the order they must run in: (d) fills the cache below `root`, which (e) reads."""
    return {
        "usual_loop": partial(usual_loop, load),
        "bare_student": partial(bare_student, load),
        "live_teacher": partial(ours, load, "never", root),
        "cold_cache": partial(ours, load, "auto", root),
        "warm_cache": partial(ours, load, "require", root),
    }


def usual_loop(load: Workload) -> Timing:
    """(a) PIL images from worker processes, and the teacher run in every step."""
    teacher, student = (network(name, role).net.to(device()) for name, role in zip(load.pair, ROLES, strict=True))
    optimizer = usual.sgd(student)
    ends: list[float] = []
    teacher.eval()
    student.train()
    for images, target in _first(usual.loader(PILImages(load.pixels, load.labels), shuffle=True), load.steps):
        usual.step(student, teacher, images, target, optimizer)
        tick(ends)
    return Timing(ends)


def bare_student(load: Workload) -> Timing:
    """(b) The student alone over ready tensors; layout, optimiser and compilation as in (e)."""
    student = network(load.pair[1], "student").to(device(), memory_format=torch.channels_last)
    run = torch.compile(student) if load.compiled else student
    optimizer = torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4, fused=True)
    images = torch.from_numpy(load.pixels[: BATCH * load.steps]).to(device()).float().div_(255)
    images = images.contiguous(memory_format=torch.channels_last)
    target = torch.from_numpy(load.labels[: BATCH * load.steps]).to(device())
    ends: list[float] = []
    student.train()
    for x, y in zip(images.split(BATCH), target.split(BATCH), strict=True):
        loss = F.cross_entropy(run(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tick(ends)
    return Timing(ends)


def ours(load: Workload, mode: str, root: Path) -> Timing:
    """(c), (d) and (e), by the cache's `mode`: Lightning, seeded views, every check of a real fit; no validation."""
    import_quietly("auto")
    recipe = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4, "schedule": "constant"}
    recipe |= {"batch_size": BATCH, "epochs": 1}
    teacher, student = (network(name, role) for name, role in zip(load.pair, ROLES, strict=True))
    strategy = Strategy.of(STRATEGY)
    ready = Images(load.pixels, load.labels, cache_dir=root, validation=0.0).configure(BATCH, 0)
    config = SimpleNamespace(
        cache=CacheConfig(mode=mode, limit_gb=100),
        paths=Paths(store=str(root)),
        recipe=Recipe.of(recipe),
        trainer=TrainerConfig(),
    )
    source = with_cache(FrozenTeacher(teacher), strategy, ready, config)
    module = Distillation(student, source, strategy, recipe=config.recipe, channels_last=True)
    timer, cached = Timer(), isinstance(source, CachedTeacher)
    opening = _seconds(partial(source.cache.view, 0)) if cached else 0.0  # what the first step would do
    engine = L.Trainer(
        max_epochs=1,
        limit_train_batches=load.steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        devices=1,
        callbacks=[timer, *([Compiled("student")] if load.compiled else [])],
    )
    engine.fit(module, datamodule=ready)
    writing = _seconds(source.flush) if cached else 0.0
    return Timing(timer.ends, opening + writing)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _first(loader: DataLoader, steps: int) -> Iterator:
    """So many batches, from as many passes over the loader as they take."""
    return islice(chain.from_iterable(repeat(loader)), steps)
