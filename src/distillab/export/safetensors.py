"""Writes the student's weights, and the metadata to use them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
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
    weights = _weights(deployed if ships else model.net)
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={"distillab": json.dumps(about)})


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of every tensor by name: safetensors takes none that shares its memory, as tied layers do."""
    state = network.state_dict()
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def check_export(model: Model, path: str) -> None:
    """Write a network's weights to memory; raises UserError, with its `path` in the config, where it cannot be exported."""
    from safetensors.torch import save

    try:
        save(_weights(model.net))
    except Exception as error:
        other = [name for name, value in model.net.state_dict().items() if not isinstance(value, Tensor)]
        reason = f"{', '.join(other)} of its state is no tensor" if other else str(error).splitlines()[0]
        raise UserError(
            f"{path}: {model.info.name} cannot be exported ({reason}); choose another with {path}=…"
        ) from error
