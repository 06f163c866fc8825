"""Hashes and values that identify a model: keys of the teacher store and of the teacher cache."""

from __future__ import annotations

import hashlib
import inspect
import re
from typing import Any

import torch

from distillab.models.image_model import ImageModel


def weights_hash(model: ImageModel) -> str:
    """SHA-256 of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.net.state_dict().items():
        values = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)  # numpy knows no bfloat16
        digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest()


def structure(model: ImageModel) -> str:
    """SHA-256 of the printed modules of a network and of its class's source."""
    try:
        source = inspect.getsource(type(model.net))
    except (OSError, TypeError):  # of a class that was typed in
        source = ""
    printed = re.sub(r" at 0x[0-9a-f]+", "", str(model.net))  # a function's address differs from process to process
    return hashlib.sha256(f"{printed}\n{source}".encode()).hexdigest()


def preprocessing(model: ImageModel) -> dict[str, Any]:
    """Settings beside the weights that change a model's outputs: normalisation, image size, class order, dtype."""
    buffers = {"mean": model.mean, "std": model.std, "order": model.class_order}
    about = {name: None if values is None else values.flatten().tolist() for name, values in buffers.items()}
    held_in = {} if model.held_in is None else {"dtype": str(model.held_in)}  # keys from before `dtype` stay
    return about | {"size": model.input_size} | held_in
