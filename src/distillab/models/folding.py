"""A network of images that is run but not trained, with each BatchNorm folded into the convolution before it."""

import copy
from collections.abc import Iterable
from contextlib import suppress

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from distillab.models.image_model import ImageModel
from distillab.models.model import Model


def folded(model: Model, needs: Iterable[str] = ()) -> Model | None:
    """A copy of a model with its BatchNorms folded, without gradients; None where none can be.

    It gives what the model gives in evaluation, but for rounding. Folded is a BatchNorm2d that alone reads the output of a
    convolution, where each is called once and has no hook: `needs`, the outputs that are read (MODEL_OUTPUTS), and
    `model.info` tell which layers must stay. The names of all modules stay.
    """
    pairs = foldable(model, needs)
    if not pairs:
        return None
    model = copy.deepcopy(model).requires_grad_(False).eval()
    for convolution, norm in pairs:
        conv, bn = model.net.get_submodule(convolution), model.net.get_submodule(norm)
        of_norm = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
        wide = [value.double() if isinstance(value, torch.Tensor) else value for value in of_norm]
        bias = None if conv.bias is None else conv.bias.double()
        for name, value in zip(
            ("weight", "bias"), fuse_conv_bn_weights(conv.weight.double(), bias, *wide), strict=True
        ):
            setattr(conv, name, nn.Parameter(value.to(conv.weight), requires_grad=False))
        model.net.set_submodule(norm, nn.Identity())
    return model


def foldable(model: Model, needs: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The paths of each convolution and the BatchNorm that can be folded into it; none but in networks of images."""
    if not isinstance(model, ImageModel):
        return []
    graph, modules = _graph(model.net), dict(model.net.named_modules())
    if graph is None or model.held_in is not None:
        return []
    called: dict[str, list[torch.fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            called.setdefault(str(node.target), []).append(node)
    read = {stage.name for stage in (*model.info.stages, model.info.last_map)} if model.info.stages else set()
    if "norms" in needs:
        read |= {stage.norm for stage in model.info.stages}
    if "stem" in needs and model.info.stem is not None:
        read.add(model.info.stem.name)
    found = []
    for path, nodes in called.items():
        before = nodes[0].args[0] if len(nodes) == 1 and len(nodes[0].args) == 1 else None
        convolution = str(before.target) if isinstance(before, torch.fx.Node) and before.op == "call_module" else ""
        if (
            type(modules[path]) is nn.BatchNorm2d
            and modules[path].running_mean is not None
            and modules[path].affine
            and type(modules.get(convolution)) is nn.Conv2d
            and len(called[convolution]) == 1
            and len(before.users) == 1
            and convolution not in read
            and not ("norms" in needs and path in read)
            and not any(
                part._forward_hooks or part._forward_pre_hooks for part in (modules[path], modules[convolution])
            )
        ):
            found.append((convolution, path))
    return found


def _graph(net: nn.Module) -> torch.fx.Graph | None:
    """The calls of a network in evaluation; None where they depend on its input's values."""
    with suppress(Exception), torch.random.fork_rng(devices=[]):
        return torch.fx.Tracer().trace(copy.deepcopy(net).eval())
    return None
