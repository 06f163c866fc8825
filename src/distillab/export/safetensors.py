"""Writes the student's weights and the metadata to use them, and reads both back."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.files import replacing
from distillab.models.build import build_model
from distillab.models.builder import builder_of_file
from distillab.models.checkpoint import read_weights
from distillab.models.model import Model

# Arguments by which timm's builders read further files.
OTHER_FILES = ("checkpoint", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


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
    `deployed` in the model's place: then the file holds its weights, and the metadata its class and its `about`. Each tensor
    is read back and compared bit for bit. Raises OSError where there is no room, and UserError where the disk holds other numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ships = deployed is not None and deployed is not model
    about = {
        "name": model.info.name,
        "model": {k: v for k, v in config.items() if k not in ("recipe", "checkpoint", "samples", "seed")},
        "classes": list(classes),
        **model.input_settings(),
    }
    if ships:
        kind = type(deployed)
        about["shipped"] = {"_target_": f"{kind.__module__}.{kind.__qualname__}", **deployed.about}
    elif model.class_order is not None:  # the outputs stand in another order than the data's classes
        about["classes"] = config.get("classes") or _as_put_out(classes, model.class_order)
    weights = _weights(deployed if ships else model.net)
    with replacing(path) as temporary:
        try:
            save_file(weights, temporary, metadata={"distillab": json.dumps(about)})
        except SafetensorError as error:  # of a full disk too, whose number stands in the text alone
            if found := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
            raise
        _check_written(weights, temporary, path)


def _check_written(weights: Mapping[str, Tensor], temporary: Path, path: Path) -> None:
    """Raise UserError where a tensor of the file is not what was written to it."""
    from safetensors import safe_open

    with safe_open(temporary, "pt") as file:
        for name, value in weights.items():
            found = file.get_tensor(name)
            alike = found.shape == value.shape and found.dtype == value.dtype
            if not alike or not torch.equal(*(one.reshape(-1).view(torch.uint8) for one in (found, value))):
                raise UserError(f"{path}: {name} is read back otherwise than it was written; choose another disk")


def _as_put_out(classes: Sequence[str], order: Tensor) -> list[str]:
    """The data's classes in the order of the network's own outputs, as many as these; `order` is the model's."""
    return [classes[place] for place in order.argsort().tolist()]


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of every tensor by name: safetensors takes none that shares its memory, as tied layers do."""
    state = network.state_dict()
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def check_export(model: Model, path: str) -> None:
    """Raise UserError, with a network's `path` in the config, where its state is none that `save_model` can write."""
    from safetensors.torch import save

    state = model.net.state_dict()
    try:
        save(
            {name: tensor.detach().flatten()[:1].cpu().clone() for name, tensor in state.items()}
        )  # one number of each
    except Exception as error:
        other = [name for name, value in state.items() if not isinstance(value, Tensor)]
        reason = f"{', '.join(other)} of its state is no tensor" if other else str(error).splitlines()[0]
        raise UserError(
            f"{path}: {model.info.name} cannot be exported ({reason}); choose another with {path}=…"
        ) from error


def load_student(
    file: str | Path,
    network: Callable[..., nn.Module] | None = None,
    shipped: type[Model] | None = None,
) -> Model:
    """A run's student out of its `student.safetensors`, with what its strategy ships, in eval mode.

    The file names the class of its network; it is called where it belongs to distillab, torchvision, timm or transformers.
    For any other, whose file you trust, give the class or function as `network`, and the class of a model that a strategy
    of yours ships, which has a `load` as `distillab.strategies.simkd.ProjectedStudent`, as `shipped`. Raises UserError for
    any other file, or one that names another class.
    """
    about = read_weights(file, "load_student")[1]
    if None in (about.classes, about.input_shape, about.mean, about.std) or "_target_" not in about.model:
        raise UserError(f"{file} does not say what its network is: load its weights with student.checkpoint={file}")
    target = network or builder_of_file(about.model["_target_"], str(file), f'load_student("{file}", YourClass)')
    own = {key: value for key, value in about.model.items() if key not in OTHER_FILES}
    alone = about.shipped is None
    given = own | {"_target_": target, "name": about.name, "checkpoint": str(file) if alone else None}
    given["classes"] = own.get("classes") or [str(name) for name in about.classes]  # so that no new head is its head
    config = ModelConfig.of(given, "student")
    shape, numbers = tuple(about.input_shape), {"mean": about.mean, "std": about.std}
    model = build_model(config, "student", [str(name) for name in about.classes], shape, **numbers, seed=0)
    if not alone:
        mend = f'load_student("{file}", shipped=YourClass)'
        kind = shipped or builder_of_file(about.shipped.get("_target_"), str(file), mend)
        if not hasattr(kind, "load"):
            raise UserError(f"{file} names {kind.__name__} as what it ships, which has no load: {mend}")
        model = kind.load(file, model)
    return model.eval()
