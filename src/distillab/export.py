"""Writes the student alone: its weights, and what someone needs to use them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillab.files import replacing
from distillab.models.image_model import ImageModel


def save_model(model: ImageModel, path: Path, config: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Write a model's weights as safetensors, atomically.

    The file's metadata holds a JSON object under `distillab`: architecture, classes in the order of the outputs,
    mean, std and input size. As `teacher.checkpoint=` the file needs no other setting.
    """
    from safetensors.torch import save_file

    about = {
        "name": model.spec.name,
        "model": {k: v for k, v in config.items() if k not in ("recipe", "checkpoint", "samples", "seed")},
        "classes": list(classes),
        "mean": model.mean.flatten().tolist() if model.mean is not None else None,
        "std": model.std.flatten().tolist() if model.std is not None else None,
        "input_size": model.input_size,
        "input_shape": list(model.input_shape),
    }
    if model.class_order is not None:  # the outputs stand in another order than the data's classes
        about["classes"] = config.get("classes")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.net.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={"distillab": json.dumps(about)})
