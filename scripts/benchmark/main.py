"""How fast distillation is against the usual loop, and against training the student alone: one command, one run, ratios."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.loops import WARMUP, cases
from benchmark.memory import peak_memory
from benchmark.sweep import startup, startup_table, sweep, sweep_table, with_held_out
from benchmark.usual import BATCH, CLASSES, SHAPE
from distillab.core.files import write_json
from distillab.data.images.sources import Folder
from distillab.training.startup import import_quietly

PARTS = ("pairs", "startup", "sweep")
SWEEP_PAIR = ("resnet56", "resnet20")
PAIRS = (("resnet32x4", "resnet8x4"), ("resnet56", "resnet20"), ("resnet56", "resnet8"))
CASES = {
    "usual_loop": "(a) usual loop: DataLoader with 2 workers, PIL transforms, live teacher, contiguous memory",
    "bare_student": "(b) bare loop over ready tensors, student alone, no augmentation",
    "live_teacher": "(c) distillab, live teacher",
    "cold_cache": "(d) distillab, filling the cache",
    "warm_cache": "(e) distillab, warm cache",
}


def measure_speed(
    pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int, compiled: bool, repeats: int = 1
) -> dict[str, float]:
    """Images per second of every case, in this process; the median of repeats that take turns.

    Args:
        pair: teacher and student.
        pixels, labels: of as many images as the steps take.
        steps: of each case in each repeat, the warm-up among them.
        compiled: whether the student of (b) to (e) is.
        repeats: how often each case is measured; what slows the machine for a while then slows every case.
    """
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:  # another cache each time, which (d) fills and (e) reads
            for name, work in cases(pair, pixels, labels, steps, compiled, Path(folder)).items():
                taken[name].append(work().images_per_second)
    return {name: statistics.median(speeds) for name, speeds in taken.items()}


def measure_memory(
    pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, compiled: bool, steps: int = 2
) -> dict[str, float]:
    """Peak memory of every case in MB, each in a process of its own; the second step has all that later ones have."""
    some = slice(BATCH * steps)
    with tempfile.TemporaryDirectory() as folder:
        works = cases(pair, pixels[some], labels[some], steps, compiled, Path(folder))
        return {name: peak_memory(work, preload=["benchmark.loops"]) for name, work in works.items()}


def table(pairs: dict[str, Any]) -> str:
    """Markdown: one table a pair."""
    lines = []
    for pair, found in pairs.items():
        speed, memory = found["images_per_second"], found["peak_memory_mb"]
        lines += [
            f"### {pair}",
            "",
            "| | images/s | against (a) | time against (b) | peak MB |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name, words in CASES.items():
            ratios = f"{speed[name] / speed['usual_loop']:.2f} × | {speed['bare_student'] / speed[name]:.2f} ×"
            lines.append(f"| {words} | {speed[name]:.0f} | {ratios} | {memory[name]:.0f} |")
        lines.append("")
    return "\n".join(lines)


def load_images(folder: str | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Real images of an ImageFolder of 32×32 images, else noise; labels are made up."""
    draw = np.random.default_rng(0)
    labels = draw.integers(CLASSES, size=count)
    if folder is None:
        return draw.integers(256, size=(count, *SHAPE), dtype=np.uint8), labels
    with tempfile.TemporaryDirectory() as store:
        data = Folder(folder, name="images", cache_dir=store)
        data.prepare()
        images = data.collection.images
        if len(images) < count or tuple(images.shape[1:]) != SHAPE:
            shape = "×".join(map(str, images.shape[1:]))
            raise SystemExit(
                f"error: --data {folder} has {len(images)} images of {shape}; {count} of 3×32×32 are needed"
            )
        return images[:count].numpy().copy(), labels


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Say how long a block took."""
    began = time.perf_counter()
    yield
    print(f"({part}: {time.perf_counter() - began:.0f} s)\n", flush=True)


def options() -> Namespace:
    """What the person asked for; numbers that were not given are small with --quick."""
    parser = ArgumentParser(description=__doc__)
    names = ["-".join(pair) for pair in PAIRS]
    parser.add_argument("--quick", action="store_true", help="the pairs alone, few steps: a minute or two")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts (all; with --quick: pairs)")
    parser.add_argument("--pair", nargs="+", choices=names, default=names, help="these pairs (all)")
    parser.add_argument("--steps", type=int, help="counted steps of each case in each repeat (20; with --quick: 4)")
    parser.add_argument("--repeats", type=int, help="how often every case is measured (3; with --quick: 1)")
    parser.add_argument("--images", type=int, help="of the sweep's training (4000; with --quick: 128)")
    parser.add_argument("--epochs", type=int, help="of each of the sweep's trainings (3; with --quick: 1)")
    parser.add_argument("--data", metavar="FOLDER", help="an ImageFolder of 32×32 images, e.g. CIFAR-10; else noise")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers there")
    parser.add_argument("--compiled", action="store_true", help="compile the student in (b) to (e)")
    found = parser.parse_args()
    for name, full, quick in (("steps", 20, 4), ("repeats", 3, 1), ("images", 4000, 128), ("epochs", 3, 1)):
        value = getattr(found, name)
        if value is None:
            setattr(found, name, quick if found.quick else full)
        elif value < 1 + (name == "steps"):  # a distance lies between two steps
            parser.error(f"--{name} must be at least {1 + (name == 'steps')}, got {value}")
    found.only = found.only or (PARTS[:1] if found.quick else PARTS)
    return found


def main() -> None:
    """`python scripts/benchmark.py [--quick] [--only PART …] [--data FOLDER] [--json FILE] [--compiled]`."""
    asked = options()
    found: dict[str, Any] = {}
    if "pairs" in asked.only:
        import_quietly("auto")
        found["pairs"] = {}
        steps = WARMUP + asked.steps
        pixels, labels = load_images(asked.data, BATCH * steps)
        for pair in PAIRS:
            name = "-".join(pair)
            if name in asked.pair:
                with timed(name):
                    found["pairs"][name] = {
                        "images_per_second": measure_speed(pair, pixels, labels, steps, asked.compiled, asked.repeats),
                        "peak_memory_mb": measure_memory(pair, pixels, labels, asked.compiled),
                    }
                    print(table({name: found["pairs"][name]}), flush=True)
    if "startup" in asked.only:
        with timed("startup"):
            found["startup"] = startup(asked.repeats, asked.data, 6_000 if asked.quick else 60_000)
            print(startup_table(found["startup"]), flush=True)
    if "sweep" in asked.only:
        pixels, _ = load_images(asked.data, with_held_out(asked.images))
        with timed("sweep"):
            found["sweep"] = sweep(SWEEP_PAIR, pixels, asked.epochs)
            print(sweep_table(found["sweep"]), flush=True)
    conditions = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch_size": BATCH,
        "steps": asked.steps,
        "repeats": asked.repeats,
        "compiled": asked.compiled,
        "images": "real" if asked.data else "random",
    }
    print(json.dumps(conditions))
    if asked.json:
        write_json(Path(asked.json), found | {"conditions": conditions})
