"""How fast distillation is against the usual loop, and against training the student alone: one command, one run, ratios."""

from __future__ import annotations

import json
import resource
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distillab.benchmark_loops import (
    BATCH,
    CLASSES,
    SHAPE,
    WARMUP,
    Images,
    bare_student,
    images_per_second,
    ours,
    usual_loop,
)
from distillab.data.images import Folder
from distillab.files import write_json
from distillab.startup import import_quietly

PAIRS = (("resnet32x4", "resnet8x4"), ("resnet56", "resnet20"), ("resnet56", "resnet8"))
CASES = {
    "usual_loop": "(a) usual loop: DataLoader with 2 workers, PIL transforms, live teacher, contiguous memory",
    "bare_student": "(b) bare loop over ready tensors, student alone, no augmentation",
    "live_teacher": "(c) distillab, live teacher",
    "cold_cache": "(d) distillab, filling the cache",
    "warm_cache": "(e) distillab, warm cache",
}


def peak_memory(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and the most memory in use meanwhile, in MB; of the process so far where Linux cannot tell."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return work(), torch.cuda.max_memory_allocated() / 1e6
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the earlier peak
        result = work()
        status = Path("/proc/self/status").read_text()
        return result, int(status.split("VmHWM:")[1].split()[0]) / 1e3
    except (OSError, IndexError):
        return work(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure_pair(
    pair: tuple[str, str], pixels: np.ndarray, labels: np.ndarray, steps: int, compiled: bool
) -> dict[str, dict[str, float]]:
    """Images per second and peak memory of every case, one after the other in this process."""
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "cache", Path(folder) / "data"
        data = Images(pixels, labels, cache_dir=store, validation=0.0)
        cases: dict[str, Callable[[], list[float]]] = {
            "usual_loop": lambda: usual_loop(pair, pixels, labels, steps),
            "bare_student": lambda: bare_student(pair, pixels, labels, steps, compiled),
            "live_teacher": lambda: ours(pair, data, steps, "never", root, compiled),
            "cold_cache": lambda: ours(pair, data, steps, "auto", root, compiled),
            "warm_cache": lambda: ours(pair, data, steps, "require", root, compiled),
        }
        found: dict[str, dict[str, float]] = {"images_per_second": {}, "peak_memory_mb": {}}
        for name, work in cases.items():
            ends, memory = peak_memory(work)
            found["images_per_second"][name] = images_per_second(ends)
            found["peak_memory_mb"][name] = memory
        return found


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
        return data._collection.images[:count].numpy().copy(), labels


def main() -> None:
    """`python scripts/benchmark.py [--quick] [--data FOLDER] [--json FILE] [--compiled]`."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, two pairs: a minute or two")
    parser.add_argument("--data", metavar="FOLDER", help="an ImageFolder of 32×32 images, e.g. CIFAR-10; else noise")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers there")
    parser.add_argument("--compiled", action="store_true", help="compile the student in (b) to (e)")
    options = parser.parse_args()
    import_quietly({"accelerator": "auto"})
    steps = WARMUP + (8 if options.quick else 40)
    pixels, labels = load_images(options.data, BATCH * steps)
    pairs = {}
    for teacher, student in PAIRS[: 2 if options.quick else None]:
        pairs[f"{teacher}-{student}"] = measure_pair((teacher, student), pixels, labels, steps, options.compiled)
        print(table({f"{teacher}-{student}": pairs[f"{teacher}-{student}"]}), flush=True)
    conditions = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch_size": BATCH,
        "steps": steps - WARMUP,
        "compiled": options.compiled,
        "images": "real" if options.data else "random",
    }
    print(json.dumps(conditions))
    if options.json:
        write_json(Path(options.json), {"pairs": pairs, "conditions": conditions})
