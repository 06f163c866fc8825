"""The loops that the benchmark compares: the usual one, the bare student, and distillab's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmark import usual
from benchmark.usual import BATCH, CLASSES, MEAN, SHAPE, STD, device, network
from distillab.data.collection import Collection
from distillab.data.images.datamodule import ImageData
from distillab.schemes.cache import with_cache
from distillab.strategies.strategy import Strategy
from distillab.teachers.cached import CachedTeacher
from distillab.teachers.frozen import FrozenTeacher
from distillab.training.compile import Compiled
from distillab.training.module import Distillation
from distillab.training.recipe import Recipe
from distillab.training.startup import import_quietly

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

    def _collect(self) -> Collection:
        classes, rows = tuple(str(i) for i in range(CLASSES)), np.arange(len(self.labels))
        images = torch.from_numpy(self.pixels)
        return Collection("benchmark", classes, 3, SHAPE[1], self.labels, rows, rows[:1], rows[:1], images)


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
    """The time at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Look at it; on a GPU wait for the work first."""
        tick(self.ends)


def tick(ends: list[float]) -> None:
    """Note the time, after the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    ends.append(time.perf_counter())


@dataclass(frozen=True)
class Taken:
    """What a case took.

    Attributes:
        ends: the time at the end of every step.
        cache: seconds of opening (with its checksums) and writing the teacher's answers to the images of all steps.
    """

    ends: Sequence[float]
    cache: float = 0.0

    @property
    def images_per_second(self) -> float:
        """From the median distance of two steps (what else the machine did now and then is not in it), and each
        step's share of the cache's seconds."""
        counted = zip(self.ends[WARMUP:-1], self.ends[WARMUP + 1 :], strict=True)
        return BATCH / (statistics.median(b - a for a, b in counted) + self.cache / len(self.ends))


def cases(
    pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int, compiled: bool, root: Path
) -> dict[str, Callable[[], Taken]]:
    """What is compared, by name and in this order: (d) fills the cache below `root`, which (e) reads.

    Args:
        pair: teacher and student.
        pixels, labels: of as many images as the steps take.
        steps: of each case, the warm-up among them.
        compiled: whether the student of (b) to (e) is.
        root: of the cache.
    """
    given = (pair, pixels, labels, steps)
    return {
        "usual_loop": partial(usual_loop, *given),
        "bare_student": partial(bare_student, *given, compiled),
        "live_teacher": partial(ours, *given, compiled, "never", root),
        "cold_cache": partial(ours, *given, compiled, "auto", root),
        "warm_cache": partial(ours, *given, compiled, "require", root),
    }


def usual_loop(pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int) -> Taken:
    """(a)"""
    teacher, student = network(pair[0], "teacher").net.to(device()).eval(), network(pair[1], "student").net.to(device())
    optimizer = usual.sgd(student)
    ends: list[float] = []
    student.train()
    for images, target in _first(usual.loader(PILImages(pixels, labels), shuffle=True), steps):
        usual.step(student, teacher, images, target, optimizer)
        tick(ends)
    return Taken(ends)


def bare_student(pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int, compiled: bool) -> Taken:
    """(b): layout, optimiser and compilation as in (e)."""
    student = network(pair[1], "student").to(device(), memory_format=torch.channels_last)
    run = torch.compile(student) if compiled else student
    optimizer = torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4, fused=True)
    images = torch.from_numpy(pixels[: BATCH * steps]).to(device()).float().div_(255)
    images = images.contiguous(memory_format=torch.channels_last)
    target = torch.from_numpy(labels[: BATCH * steps]).to(device())
    ends: list[float] = []
    student.train()
    for x, y in zip(images.split(BATCH), target.split(BATCH), strict=True):
        loss = F.cross_entropy(run(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tick(ends)
    return Taken(ends)


def ours(
    pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int, compiled: bool, mode: str, root: Path
) -> Taken:
    """(c), (d) and (e): Lightning, seeded views, every check of a real fit; no validation."""
    import_quietly({"accelerator": "auto"})
    recipe = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4, "schedule": "constant"}
    recipe |= {"batch_size": BATCH, "epochs": 1}
    teacher, student, strategy = network(pair[0], "teacher"), network(pair[1], "student"), Strategy.of(STRATEGY)
    ready = Images(pixels, labels, cache_dir=root, validation=0.0).configure(BATCH, 0)
    settings = {"mode": mode, "dtype": "float16", "top_k": None, "limit_gb": 100}
    layout = {"channels_last": True}
    config = {"cache": settings, "recipe": {"precision": "32-true", "epochs": 1}, "trainer": layout}
    source = with_cache(FrozenTeacher(teacher), strategy, ready, config, root)
    module = Distillation(student, source, strategy, recipe=Recipe.of(recipe), **layout)
    timer, cached = Timer(), isinstance(source, CachedTeacher)
    opening = _seconds(partial(source.cache.view, 0)) if cached else 0.0  # what the first step would do
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    engine = L.Trainer(
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        devices=1,
        callbacks=[timer, *([Compiled("student")] if compiled else [])],
        **quiet,
    )
    engine.fit(module, datamodule=ready)
    writing = _seconds(source.flush) if cached else 0.0
    return Taken(timer.ends, opening + writing)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _first(loader: DataLoader, steps: int) -> Iterator:
    count = 0
    while True:
        for batch in loader:
            yield batch
            count += 1
            if count == steps:
                return
