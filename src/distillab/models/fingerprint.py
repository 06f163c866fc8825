"""Hashes and values that identify a model: keys of the teacher store and of the teacher cache."""

import copy
import hashlib
import inspect
import re
from typing import Any

import torch

from distillab.core.own_code import name_of, own_code
from distillab.core.weights import add_weights
from distillab.models.model import Model

INSTALLED = (
    "builtins",
    "distillab",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)  # whose networks are known by their config


def weights_hash(model: Model) -> str:
    """SHA-256 of all weights and buffers, or what stands for those of a large folder that are not trained here."""
    if model.origin is not None:
        return model.origin
    digest = hashlib.sha256()
    add_weights(digest, model.net)
    return digest.hexdigest()


def body_hash(model: Model) -> str:
    """SHA-256 of all weights and buffers but those of the head: the same whatever head a network was given."""
    digest = hashlib.sha256()
    add_weights(digest, model.net, without=model.info.head)
    return digest.hexdigest()


def structure(model: Model) -> str:
    """SHA-256 of the printed modules of a network, of its class's source and of its `code`."""
    try:
        source = inspect.getsource(type(model.net))
    except (OSError, TypeError):  # the class was defined in an interactive session
        source = ""
    printed = re.sub(r" at 0x[0-9a-f]+", "", str(model.net))  # a function's address differs from process to process
    return hashlib.sha256(f"{printed}\n{source}{code(model) or ''}".encode()).hexdigest()


def code(model: Model) -> str | None:
    """SHA-256 of what a network's own code is and does; None where all of it is installed.

    Of its source, and of the size of its outputs on fixed inputs, which also tells what the source does not show.
    """
    names = {name_of(type(module)) for module in model.net.modules()} | {model.builder or "builtins"}
    own = sorted(name for name in names if name.partition(".")[0] not in INSTALLED)
    return hashlib.sha256(f"{own_code(*own)} {_outputs(model)}".encode()).hexdigest() if own else None


def _outputs(model: Model) -> list[str]:
    """Mean size and spread of the logits in evaluation and in training."""
    probe, found = copy.deepcopy(model).cpu().float(), []  # a copy: training moves statistics
    probe.held_in = None
    with torch.random.fork_rng(), torch.no_grad():
        for training in (False, True):
            torch.manual_seed(0)
            try:
                logits = probe.train(training)(**probe.example_inputs(8))
                # Three digits: the last ones differ from machine to machine.
                found += [f"{float(figure):.3g}" for figure in (logits.abs().mean(), logits.std())]
            except Exception as error:  # the fit will say what is wrong with it
                found.append(type(error).__name__)
    return found


def preprocessing(model: Model) -> dict[str, Any]:
    """Settings beside the weights that change a model's outputs: of its inputs, class order, dtype."""
    order = model.class_order.tolist() if model.class_order is not None else None
    return model.input_settings() | {"order": order, "dtype": str(model.held_in)}
