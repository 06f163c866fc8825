"""Hashes and values that identify a model: keys of the teacher store and of the teacher cache."""

import hashlib
import inspect
import re
from typing import Any

import torch

from distillab.models.model import Model


def weights_hash(model: Model) -> str:
    """SHA-256 of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.net.state_dict().items():
        values = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)  # numpy knows no bfloat16
        digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest()


def structure(model: Model) -> str:
    """SHA-256 of the printed modules of a network and of its class's source."""
    try:
        source = inspect.getsource(type(model.net))
    except (OSError, TypeError):  # the class was defined in an interactive session
        source = ""
    printed = re.sub(r" at 0x[0-9a-f]+", "", str(model.net))  # a function's address differs from process to process
    return hashlib.sha256(f"{printed}\n{source}".encode()).hexdigest()


def preprocessing(model: Model) -> dict[str, Any]:
    """Settings beside the weights that change a model's outputs: of its inputs, class order, dtype."""
    order = model.class_order.tolist() if model.class_order is not None else None
    return model.input_settings() | {"order": order, "dtype": str(model.held_in)}
