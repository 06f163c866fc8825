"""How fast distillation is against the usual loop, and against training the student alone: one command, one run, ratios."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_tables import table

from benchmark.decoding import decoding, decoding_table
from benchmark.folding import folding, folding_table
from benchmark.loops import WARMUP, Workload, cases
from benchmark.memory import peak_memory
from benchmark.sweep import startup, startup_table, sweep, sweep_table, with_held_out
from benchmark.usual import BATCH, CLASSES, SHAPE
from distillab.core.files import write_json
from distillab.data.images.sources import Folder
from distillab.training.startup import import_quietly

PARTS = ("pairs", "startup", "sweep", "decoding", "folding")
SWEEP_PAIR = ("resnet56", "resnet20")
PAIRS = (("resnet32x4", "resnet8x4"), ("resnet56", "resnet20"), ("resnet56", "resnet8"))
CASES = {
    "usual_loop": "(a) usual loop: DataLoader with 2 workers, PIL transforms, live teacher, contiguous memory",
    "bare_student": "(b) bare loop over ready tensors, student alone, no augmentation",
    "live_teacher": "(c) distillab, live teacher",
    "cold_cache": "(d) distillab, filling the cache",
    "warm_cache": "(e) distillab, warm cache",
}


def measure_speed(load: Workload, repeats: int = 1) -> dict[str, float]:
    """Images per second of every case, in this process; the median of repeats.

    The cases take turns: whatever slows the machine for a while slows each of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:  # another cache each time, which (d) fills and (e) reads
            for name, work in cases(load, Path(folder)).items():
                taken[name].append(work().images_per_second)
    return {name: statistics.median(speeds) for name, speeds in taken.items()}


def measure_memory(load: Workload) -> dict[str, float]:
    """Peak memory of every case in MB, each in a process of its own, over two steps: later ones take no more."""
    load = replace(load, pixels=load.pixels[: 2 * BATCH], labels=load.labels[: 2 * BATCH], steps=2)
    with tempfile.TemporaryDirectory() as folder:
        works = cases(load, Path(folder))
        return {name: peak_memory(work, preload=["benchmark.loops"]) for name, work in works.items()}


def pair_table(speed: Mapping[str, float], memory: Mapping[str, float]) -> str:
    """Markdown, a line for every case."""
    rows = []
    for name, words in CASES.items():
        ratios = f"{speed[name] / speed['usual_loop']:.2f} ×", f"{speed['bare_student'] / speed[name]:.2f} ×"
        rows.append((words, f"{speed[name]:.0f}", *ratios, f"{memory[name]:.0f}"))
    return table(("", "images/s", "against (a)", "time against (b)", "peak MB"), rows)


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
    """Print how long a block took."""
    began = time.perf_counter()
    yield
    print(f"({part}: {time.perf_counter() - began:.0f} s)\n", flush=True)


def options() -> Namespace:
    """The command line's options; numbers that were not given are small with --quick."""
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
                load = Workload(pair, pixels, labels, steps, asked.compiled)
                with timed(name):
                    speed, memory = measure_speed(load, asked.repeats), measure_memory(load)
                    print(f"### {name}\n\n{pair_table(speed, memory)}\n", flush=True)
                found["pairs"][name] = {"images_per_second": speed, "peak_memory_mb": memory}
    if "startup" in asked.only:
        with timed("startup"):
            found["startup"] = startup(asked.repeats, asked.data, 6_000 if asked.quick else 60_000)
            print(startup_table(found["startup"]), flush=True)
    if "sweep" in asked.only:
        pixels, _ = load_images(asked.data, with_held_out(asked.images))
        with timed("sweep"):
            found["sweep"] = sweep(SWEEP_PAIR, pixels, asked.epochs)
            print(sweep_table(found["sweep"]), flush=True)
    if "decoding" in asked.only:
        with timed("decoding"):
            found["decoding"] = decoding(asked.repeats)
            print(decoding_table(found["decoding"]), flush=True)
    if "folding" in asked.only:
        with timed("folding"):
            found["folding"] = folding(asked.repeats)
            print(folding_table(found["folding"]), flush=True)
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
