"""Builds a language model in its role from its config and the data's tokens."""

import torch
from torch import nn

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import accepted, build
from distillab.core.places import folder_or_name, located
from distillab.models.builder import builder, is_teacher
from distillab.models.causal_lm import CausalLM, keep_layers
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.folder_identity import folder_identity

FROM_FOLDER = "distillab.models.causal_lm.pretrained_lm"
IMAGE_MODELS = ("distillab.models.zoo.", "distillab.models.torchvision.", "distillab.models.timm.")
OF_IMAGES = ("mean", "std", "input_size", "classes", "head")


def check_language_model(config: ModelConfig, role: str) -> None:
    """Refuse what shows before the data are read: keys of images, no class, a folder that is not there; UserError."""
    target = str(config.builder.target)
    if target.startswith(IMAGE_MODELS):
        text = "student=llama_170k" if role == "student" else "teacher=llama_1m4"
        raise UserError(
            f"{role}={config.name} is for images, and the data are text: {text} (debug=quick for a short run)"
        )
    for key in OF_IMAGES:
        if getattr(config, key) is not None:
            raise UserError(f"{role}.{key} is for images, and the data are text: {role}.{key}=null")
    if config.adapt in ("head", "none"):
        raise UserError(
            f"{role}.adapt={config.adapt} is for images, and the data are text: {role}.adapt=all trains the teacher on them "
            f"first, or {role}.adapt=null"
        )
    if config.builder.target is None:
        raise UserError(f"{role}._target_ is missing: name your class, e.g. {role}._target_=my_package.MyNet")
    place = config.builder.get("path")
    if place == "???":
        raise UserError(f"{role}.path is missing: {role}.path=… names a folder, or a model on the hub as owner/name")
    if place is not None:
        folder_or_name(str(place), f"{role}.path")
    if config.builder.get("device_map") is not None and (not stays_as_it_is(config, role) or config.shard):
        raise UserError(
            f"{role}.device_map is for a frozen teacher with the weights of its folder: {role}.device_map=null"
            + (", or teacher.adapt=null teacher.shard=false" if role == "teacher" else "")
        )


def stays_as_it_is(config: ModelConfig, role: str) -> bool:
    """Whether a network has the weights of a folder, and no run trains it: a teacher's, or one of an ensemble's."""
    own = config.builder.target == FROM_FOLDER and config.pretrained and not config.checkpoint and not config.adapt
    return is_teacher(role) and own


def build_language_model(config: ModelConfig, role: str, vocabulary: int, length: int, *, seed: int) -> CausalLM:
    """A model with fresh weights of the seed, those of a folder or the hub, or those of `config.checkpoint`.

    Raises UserError where the config does not give such a model, or the checkpoint does not fit.
    """
    node = config.builder
    offered = {"vocabulary": vocabulary, "num_classes": vocabulary, "length": length, "pretrained": config.pretrained}
    frozen = stays_as_it_is(config, role)
    if frozen and config.dtype:
        offered["dtype"] = config.dtype  # so that the memory never holds it in float32
    given = accepted(builder(node.target, role), offered)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(node, role, **given)
    if not isinstance(net, nn.Module):
        raise UserError(f"{role}._target_: {node.target} made a {type(net).__name__}, not a torch.nn.Module")
    name = config.name or str(node.get("path") or node.target).rstrip("/").rpartition("/")[2].rpartition(".")[2]
    if config.checkpoint:
        weights, _ = read_weights(config.checkpoint, f"{role}.checkpoint")
        load_weights(net, weights, name, config.checkpoint, key=f"{role}.checkpoint")
    try:
        net = net if config.keep_layers is None else keep_layers(net, config.keep_layers)
        model = CausalLM(net, vocabulary, length, name, stages=config.stages)
    except UserError as error:
        raise UserError(f"{role}: {error}") from error
    model.builder = node.target
    if frozen and config.dtype:
        model.hold_in(config.dtype)
    whole = node.get("layers") is None and node.get("gguf") is None
    if frozen and whole and (folder := located(str(node.get("path")), f"{role}.path")).is_dir():
        model.origin = folder_identity(folder)
    return model
