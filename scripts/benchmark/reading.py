"""CPU time of reading: one image from its JPEG, and one sample's teacher outputs from the cache (docs/scale.json)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from distillab.data.images.augment import Augment
from distillab.data.images.file_views import FileViews
from distillab.teachers.cache import View
from distillab.teachers.layout import Layout


def measure(layouts: Mapping[str, Layout], images: int = 200) -> dict[str, Any]:
    """CPU seconds on one core.

    Args:
        layouts: of the cache, by name.
        images: how many are read.

    Returns:
        `decode` (one image: a 500×375 JPEG is read, cropped and resized to 224), `replay` (by layout: one sample's
        outputs are read from a written shard), `torch`.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "photograph.jpg"
        photograph(file)
        crop = Augment.of({"resized_crop": 0.08, "flip": True})
        labels = torch.zeros(images, dtype=torch.long)
        views = FileViews([str(file)] * images, labels, 3, 224, resize=256, augment=crop)
        _ = views[0, 0]
        began = time.process_time()
        for index in range(images):
            _ = views[index, 1]
        decode = (time.process_time() - began) / images
        replay = {name: _replay(Path(place) / name, layout) for name, layout in layouts.items()}
    return {"decode": round(decode, 6), "replay": replay, "torch": torch.__version__.partition("+")[0]}


def photograph(path: Path, size: tuple[int, int] = (500, 375), seed: int = 0) -> None:
    """Write a JPEG, by default of about ImageNet's mean size in pixels and bytes: broad shapes, and some noise."""
    draw = np.random.default_rng(seed)
    shapes = Image.fromarray(draw.integers(256, size=(12, 16, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
    noisy = np.asarray(shapes, float) + draw.normal(scale=12, size=(size[1], size[0], 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=94)


def _replay(folder: Path, layout: Layout, samples: int = 8192, batch: int = 256) -> float:
    view = View(folder, layout, samples, "measured")
    view.add(np.arange(samples), np.zeros(samples, layout.record))
    view.publish()
    order = np.random.default_rng(0).permutation(samples)
    began = time.process_time()
    for index in order.reshape(-1, batch):
        layout.decode(view.read(index))
    return round((time.process_time() - began) / samples, 9)
