"""The loops that the benchmark compares: the usual one, the bare student, and distillab's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from distillab import benchmark_usual as usual
from distillab.benchmark_usual import BATCH, CLASSES, MEAN, SHAPE, STD, device, network
from distillab.data.collection import Collection
from distillab.data.datamodule import ImageData
from distillab.module import Distillation
from distillab.optim import Recipe
from distillab.teachers.cached import attach

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


class Clock(L.Callback):
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


def images_per_second(ends: Sequence[float]) -> float:
    """From the median distance of two steps: what else the machine did now and then is not in it."""
    return BATCH / statistics.median(b - a for a, b in zip(ends[WARMUP:-1], ends[WARMUP + 1 :], strict=True))


def usual_loop(pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int) -> list[float]:
    """(a)"""
    teacher, student = network(pair[0], "teacher").net.to(device()).eval(), network(pair[1], "student").net.to(device())
    optimizer = usual.sgd(student)
    ends: list[float] = []
    student.train()
    for images, target in _first(usual.loader(PILImages(pixels, labels), shuffle=True), steps):
        usual.step(student, teacher, images, target, optimizer)
        tick(ends)
    return ends


def bare_student(pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int, compiled: bool) -> list:
    """(b): layout, optimiser and compilation as in (e)."""
    student = network(pair[1], "student").to(device(), memory_format=torch.channels_last)
    if compiled:
        student.compile()
    optimizer = torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4, fused=True)
    images = torch.from_numpy(pixels[: BATCH * steps]).to(device()).float().div_(255)
    images = images.contiguous(memory_format=torch.channels_last)
    target = torch.from_numpy(labels[: BATCH * steps]).to(device())
    ends: list[float] = []
    student.train()
    for x, y in zip(images.split(BATCH), target.split(BATCH), strict=True):
        loss = F.cross_entropy(student(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tick(ends)
    return ends


def ours(pair: tuple[str, str], data: Images, steps: int, mode: str, root: Path, compiled: bool) -> list[float]:
    """(c), (d) and (e): Lightning, seeded views, every check of a real fit; no validation."""
    recipe = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4, "schedule": "constant"}
    recipe |= {"batch_size": BATCH, "epochs": 1}
    teacher, student = network(pair[0], "teacher"), network(pair[1], "student")
    if compiled:
        student.compile()
    module = Distillation(student, teacher, STRATEGY, recipe=Recipe.of(recipe), channels_last=True)
    ready = data.configure(BATCH, 0)
    settings = {"mode": mode, "dtype": "float16", "top_k": None, "limit_gb": 100}
    config = {"cache": settings, "recipe": {"precision": "32-true"}, "trainer": {"channels_last": True}}
    attach(module, ready, config, root)
    clock = Clock()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    engine = L.Trainer(
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        devices=1,
        callbacks=[clock],
        **quiet,
    )
    engine.fit(module, datamodule=ready)
    if module.cache is not None:
        module.cache.publish()
    return clock.ends


def _first(loader: DataLoader, steps: int) -> Iterator:
    count = 0
    while True:
        for batch in loader:
            yield batch
            count += 1
            if count == steps:
                return
