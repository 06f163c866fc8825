"""Writes the student's weights, and the metadata to use them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from distillab.core.files import replacing
from distillab.models.model import Model


def save_model(
    model: Model,
    path: Path,
    config: Mapping[str, Any],
    classes: Sequence[str],
    *,
    deployed: nn.Module | None = None,
) -> None:
    """Write a model's weights as safetensors, atomically.

    The file's metadata holds a JSON object under `distillab`: architecture, classes in the order of the outputs,
    what it expects of its inputs. As `teacher.checkpoint=` the file needs no other setting. A strategy may ship
    `deployed` in the model's place: then the file holds its weights, and the metadata its `about`.
    """
    from safetensors.torch import save_file

    ships = deployed is not None and deployed is not model
    about = {
        "name": model.info.name,
        "model": {k: v for k, v in config.items() if k not in ("recipe", "checkpoint", "samples", "seed")},
        "classes": list(classes),
        **model.input_settings(),
    }
    if model.class_order is not None:  # the outputs stand in another order than the data's classes
        about["classes"] = config.get("classes")
    if ships:
        about["shipped"] = deployed.about
    state = deployed.state_dict() if ships else model.net.state_dict()
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={"distillab": json.dumps(about)})
