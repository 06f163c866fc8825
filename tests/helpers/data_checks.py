"""Image folders, data modules and error checks that several tests share."""

import numpy as np
import pytest
from PIL import Image

from distillab.core.errors import UserError
from distillab.data.images.sources import Digits, Folder

AUGMENT = {"crop": 1, "flip": True}
STRONG = {"operations": 2, "magnitude": 10, "cutout": 0.5}


def write_images(folder, counts, size=(6, 6), mode="RGB", seed=0):
    generator = np.random.RandomState(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = size[::-1] + ((3,) if mode == "RGB" else ())
            pixels = generator.randint(0, 256, shape).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


def cats_and_dogs(path):
    write_images(path / "images" / "train", {"cat": 20, "dog": 30})
    write_images(path / "images" / "test", {"cat": 4, "dog": 6}, seed=1)
    return path / "images"


def folder(root, **numbers):
    return Folder(
        **({"root": root, "name": "folder", "cache_dir": root.parent / "store", "augment": AUGMENT} | numbers)
    )


def digits(tmp_path, **numbers):
    return Digits(**({"name": "digits", "cache_dir": tmp_path, "augment": {"crop": 1}} | numbers))


def indices(batches):
    return [batch.index.tolist() for batch in batches]


def rows(data):
    return {split: set(found.tolist()) for split, found in data.rows.items()}


def complaint(action, *parts):
    with pytest.raises(UserError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message and all(str(part) in message for part in parts), message
