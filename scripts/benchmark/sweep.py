"""Whole commands against each other: start-up, and a sweep of five methods against five runs of the usual loop."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page_tables import table
from torch import Tensor, nn

from benchmark import child_environment
from benchmark.usual import CLASSES, SHAPE
from distillab.models.zoo.cifar_resnet import CifarResNet

# Figures to reach: seconds beyond the imports, seconds, and how many times as fast.
TO_REACH = {"first_step": 3.0, "help": 0.5, "data_ready": 1.0, "sweep": 2.5}
METHODS = ("kd", "dkd", "dist", "nkd", "wttm")
DISTILLAB = (sys.executable, "-m", "distillab.commands.cli")
# A small run: what a start costs does not depend on how long the training would go on.
SMALL = ("teacher=resnet20", "baseline=false", "logger=none", "recipe.epochs=1", "teacher.recipe.epochs=1")
STOP = "benchmark.sweep.StopsAtFirstStep"
REACHED = "the first step"


class StopsAtFirstStep(nn.Module):
    """A student that ends its process when the first step's loss is differentiated: the command then took its start-up alone."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.net = CifarResNet(depth=8, num_classes=num_classes, in_channels=in_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        logits = self.net(images)
        if self.training and logits.requires_grad:  # what is tried before a step is tried in evaluation mode
            logits.register_hook(_stop)
        return logits


def _stop(gradient: Tensor) -> None:
    print(REACHED, flush=True)
    os._exit(0)  # whatever else an orderly end takes is no part of the start


def seconds(command: Sequence[str], place: str | Path, expected: str = "") -> float:
    """What a command takes in a fresh process.

    Args:
        command: its words.
        place: the folder it runs in, and keeps its results and store in.
        expected: what it must print.

    Raises:
        RuntimeError: it failed, or did not print that; with its last lines.
    """
    environment = child_environment() | {"DISTILLAB_STORE": "store"}
    began = time.perf_counter()
    pipes = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, cwd=place, env=environment, **pipes)  # noqa: S603 - words of this script
    took = time.perf_counter() - began
    if done.returncode or expected not in done.stdout:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
    return took


def startup(repeats: int = 3, data: str | None = None, images: int = 60_000) -> dict[str, float]:
    """Seconds until something happens, each in a fresh process; the median of repeats that take turns.

    Args:
        repeats: how often each is measured.
        data: an ImageFolder; None writes one of noise.
        images: of that noise.

    Returns:
        `imports` (lightning and torchvision alone), `first_step` (the command, teacher and its answers in the store),
        `hydra` (its import alone), `help` (`--help`), `data_ready` and `data_images` (see `data_ready`).

    Raises:
        RuntimeError: a command failed.
    """
    with tempfile.TemporaryDirectory() as place:
        seconds([*DISTILLAB, "student=resnet8", *SMALL], place)  # trains the teacher, and fills the cache
        commands: dict[str, tuple[list[str], str]] = {
            "imports": ([sys.executable, "-c", "import lightning, torchvision"], ""),
            "first_step": (
                [*DISTILLAB, "student=custom", f"student._target_={STOP}", "cache.mode=require", *SMALL],
                REACHED,
            ),
            "hydra": ([sys.executable, "-c", "import hydra"], ""),
            "help": ([*DISTILLAB, "--help"], "strategy"),
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, (command, expected) in commands.items():
                taken[name].append(seconds(command, place, expected))
        found = {name: statistics.median(times) for name, times in taken.items()}
        if data is None:
            data = Path(place) / "images"
            write_images(data, np.random.default_rng(0).integers(256, size=(images, *SHAPE), dtype=np.uint8))
        return found | data_ready(data, place)


def data_ready(folder: str | Path, store: str | Path) -> dict[str, float]:
    """How long an ImageFolder takes at a second start.

    Returns:
        `data_ready` (seconds until the images, decoded before, are listed, checked, mapped and split) and
        `data_images` (how many they are).
    """
    from distillab.data.images.sources import Folder

    Folder(folder, name="images", cache_dir=store).prepare()
    began = time.perf_counter()
    again = Folder(folder, name="images", cache_dir=store)
    again.prepare()
    return {"data_ready": time.perf_counter() - began, "data_images": sum(again.sizes.values())}


def sweep(pair: tuple[str, str], pixels: np.ndarray, epochs: int) -> dict[str, Any]:
    """Seconds of a sweep of five methods, and of five runs of the usual loop on the same image files.

    Both sides train the teacher once, start, decode, look at the validation images after every epoch and at the test
    images once. The usual loop is a fresh process each time, and reads its files in every epoch.

    Args:
        pair: teacher and student.
        pixels: (N, 3, 32, 32) uint8; a twelfth each (or an image per class, if that is more) validates and tests.
        epochs: of every training.

    Returns:
        `ours` and `usual`, of which `ours_teacher` and `usual_teacher`; `ratio`; and `pair`, `images`, `epochs`.

    Raises:
        RuntimeError: a command failed.
    """
    teacher, student = pair
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        images = write_images(place / "images", pixels)
        ours = seconds(_sweep_command(pair, epochs), place, "sweep.md")
        results = [json.loads(path.read_text()) for path in place.glob("runs/benchmark/*/result.json")]
        loop = [sys.executable, "-m", "benchmark.usual", "images"]
        weights = ["--epochs", str(epochs), "--save", "teacher.pt"]
        usual_teacher = seconds([*loop, teacher, *weights], place, "test")
        taught = ["--epochs", str(epochs), "--teacher", teacher, "--weights", "teacher.pt"]
        runs = [seconds([*loop, student, *taught, "--seed", str(i)], place, "test") for i in range(len(METHODS))]
    usual = usual_teacher + sum(runs)
    return {
        "pair": f"{teacher}-{student}",
        "images": images,
        "epochs": epochs,
        "ours": ours,
        "ours_teacher": max(result["seconds"]["teacher"] for result in results),  # the other cells find it trained
        "usual": usual,
        "usual_teacher": usual_teacher,
        "ratio": usual / ours,
    }


def _sweep_command(pair: tuple[str, str], epochs: int) -> list[str]:
    models = [f"teacher={pair[0]}", f"student={pair[1]}", "baseline=false", "logger=none", "name=benchmark"]
    budget = [f"recipe.epochs={epochs}", f"teacher.recipe.epochs={epochs}"]
    rest = ["data=folder", "data.root=images", "recipe=short_cifar", *budget]
    return [*DISTILLAB, "-m", f"strategy={','.join(METHODS)}", *models, *rest]


def with_held_out(images: int) -> int:
    """How many images there must be for `images` of them to train."""
    return images + 2 * max(images // 10, CLASSES)


def write_images(folder: Path, pixels: np.ndarray) -> int:
    """Write images (N, 3, H, W) as PNG files below train/, val/ and test/, every class in each.

    Returns:
        How many train.
    """
    from PIL import Image

    held = max(len(pixels) // 12, CLASSES)
    for i, image in enumerate(pixels.transpose(0, 2, 3, 1)):
        part = "val" if i < held else "test" if i < 2 * held else "train"
        place = folder / part / f"{i % CLASSES:03d}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:06d}.png")
    return len(pixels) - 2 * held


def startup_table(found: Mapping[str, float]) -> str:
    """What `startup` found, in Markdown."""
    images = f"{found['data_images']:,} images ready, second start"
    rows = [
        ("`import lightning, torchvision` alone", "imports", None),
        ("from the command to the first step, warm store", "first_step", "imports"),
        ("`import hydra` alone", "hydra", None),
        ("`--help`", "help", "hydra"),
        (images, "data_ready", None),
    ]
    lines = []
    for words, key, base in rows:
        more = f"{found[key] - found[base]:+.2f}" if base else ""
        most = f"at most {TO_REACH[key]:{'+' if base else ''}.2f}" if key in TO_REACH else ""
        lines.append((words, f"{found[key]:.2f}", more, most))
    return table(("start-up", "seconds", "more than the imports", "to reach"), lines) + "\n"


def sweep_table(found: Mapping[str, Any]) -> str:
    """What `sweep` found, in Markdown."""
    about = f"{found['pair']}, {found['images']:,} images × {found['epochs']} epochs"
    lines = []
    sides = (
        ("usual", "five runs of the usual loop", ""),
        ("ours", f"distillab, strategy={','.join(METHODS)}", f"at least {TO_REACH['sweep']:.2f} ×"),
    )
    for key, words, least in sides:
        ratio = f"{found['usual'] / found[key]:.2f} ×"
        lines.append((words, f"{found[key]:.0f}", f"{found[f'{key}_teacher']:.0f}", ratio, least))
    return table((about, "seconds", "of which the teacher", "", "to reach"), lines) + "\n"
