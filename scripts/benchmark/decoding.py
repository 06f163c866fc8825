"""What a view of an image file costs where one decoding serves several (data.views_per_decode)."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from page_tables import table

from benchmark.reading import photograph
from distillab.data.images.sources import Folder

VIEWS = (1, 2, 4, 8)
SIZE = (400, 300)
BATCH = 8


def decoding(repeats: int = 3, images: int = 200) -> dict[int, float]:
    """Images per second of CPU time on one core, by views per decoding; the median of repeats that take turns.

    Args:
        repeats: how often each is measured, over one epoch after another that warms up.
        images: JPEGs of `SIZE` that are read, cropped, resized to 224 and flipped.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number in range(images + 2):
            split = "train" if number < images else "test"
            file = place / "images" / split / "ab"[number % 2] / f"{number:04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            photograph(file, SIZE, number)
        how = {"augment": {"resized_crop": 0.08, "flip": True}, "image_size": 224, "resize": 256, "validation": 0.0}
        how |= {"mean": [0.5] * 3, "std": [0.25] * 3, "workers": 0, "cache_dir": place / "store", "name": "jpeg"}
        with redirect_stdout(StringIO()):  # each says what lies in the folder
            data = {
                views: Folder(place / "images", views_per_decode=views, **how).configure(BATCH, 0) for views in VIEWS
            }
        loaders = {views: one.train_dataloader() for views, one in data.items()}
        taken: dict[int, list[float]] = {views: [] for views in VIEWS}
        for epoch in range(repeats + 1):
            for views, loader in loaders.items():
                loader.sampler.set_epoch(epoch)
                began = time.process_time()
                seen = sum(len(batch) for batch in loader)
                taken[views].append(seen / (time.process_time() - began))
    return {views: statistics.median(speeds[1:]) for views, speeds in taken.items()}


def decoding_table(found: Mapping[int, float]) -> str:
    """What `decoding` found, in Markdown."""
    rows = [(f"{views}", f"{speed:.0f}", f"{speed / found[1]:.2f} ×") for views, speed in found.items()]
    return table(("views_per_decode", "images/s of a core", "against 1"), rows) + "\n"
