"""The CIFAR networks of the zoo as RepDistiller and mdistiller name their modules: which of theirs is which of ours.

Every function lists pairs (their module, our module) in the order in which their networks register them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

Pairs = Iterator[tuple[str, str]]


def cifar_resnet(net: nn.Module) -> Pairs:
    yield from _resnet(net, ("layer1", "layer2", "layer3"), "downsample", "shortcut", ("fc", "fc"))


def torchvision_resnet(net: nn.Module) -> Pairs:
    yield from _resnet(net, ("layer1", "layer2", "layer3", "layer4"), "shortcut", "downsample", ("linear", "fc"))


def _resnet(net, layers, theirs, ours, head) -> Pairs:
    yield from (("conv1", "conv1"), ("bn1", "bn1"))
    for layer in layers:
        for i, block in enumerate(net.get_submodule(layer)):
            at = f"{layer}.{i}"
            for number in range(1, 4 if hasattr(block, "conv3") else 3):
                yield from ((f"{at}.{kind}{number}", f"{at}.{kind}{number}") for kind in ("conv", "bn"))
            if len(list(getattr(block, ours).children() if getattr(block, ours) is not None else ())):
                yield from ((f"{at}.{theirs}.{j}", f"{at}.{ours}.{j}") for j in (0, 1))
    yield head


def wide_resnet(net: nn.Module) -> Pairs:
    yield "conv1", "conv1"
    opens = None  # the BatchNorm that opens a stage is ours at the end of the stage before
    for stage in (1, 2, 3):
        layer = net.get_submodule(f"layer{stage}")
        blocks = [module for module in layer if hasattr(module, "residual")]
        for i, block in enumerate(blocks):
            their, our = f"block{stage}.layer.{i}", f"layer{stage}.{i}"
            yield f"{their}.bn1", opens if i == 0 and opens else f"{our}.activate.0"
            yield f"{their}.conv1", f"{our}.residual.0"
            yield f"{their}.bn2", f"{our}.residual.1"
            yield f"{their}.conv2", f"{our}.residual.3"
            if block.shortcut is not None:
                yield f"{their}.convShortcut", f"{our}.shortcut"
        opens = f"layer{stage}.{len(blocks)}"
    yield from (("bn1", opens), ("fc", "fc"))


def vgg(net: nn.Module) -> Pairs:
    for stage in range(5):
        for i in range(len(net.get_submodule(f"layer{stage}"))):  # convolution, BatchNorm, ReLU
            yield from ((f"block{stage}.{3 * i + j}", f"layer{stage}.{i}.{j}") for j in (0, 1))
    yield "classifier", "fc"


def mobilenetv2(net: nn.Module) -> Pairs:
    yield from ((f"conv1.{j}", f"conv1.{j}") for j in (0, 1))
    ours = [f"layer{stage}.{i}" for stage in (1, 2, 3, 4) for i in range(len(net.get_submodule(f"layer{stage}")))]
    theirs = [f"blocks.{group}.{i}" for group, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for i in range(count)]
    for their, our in zip(theirs, ours, strict=True):
        for part in range(3):
            yield from ((f"{their}.conv.{3 * part + j}", f"{our}.residual.{part}.{j}") for j in (0, 1))
    yield from ((f"conv2.{j}", f"final.{j}") for j in (0, 1))
    yield "classifier.0", "fc"


def shufflenetv1(net: nn.Module) -> Pairs:
    yield from (("conv1", "conv1.0"), ("bn1", "conv1.1"))
    for at in _blocks(net):
        for number, part in enumerate(("reduce", "expand.0", "expand.1"), start=1):
            yield from ((f"{at}.conv{number}", f"{at}.{part}.0"), (f"{at}.bn{number}", f"{at}.{part}.1"))
    yield "linear", "fc"


def shufflenetv2(net: nn.Module) -> Pairs:
    yield from (("conv1", "conv1.0"), ("bn1", "conv1.1"))
    for at in _blocks(net):
        left = ("left.0", "left.1") if net.get_submodule(at).left is not None else ()
        for number, part in enumerate((*left, "right.0", "right.1", "right.2"), start=1):
            yield from ((f"{at}.conv{number}", f"{at}.{part}.0"), (f"{at}.bn{number}", f"{at}.{part}.1"))
    yield from (("conv2", "final.0"), ("bn2", "final.1"), ("linear", "fc"))


def _blocks(net: nn.Module) -> list[str]:
    return [f"layer{stage}.{i}" for stage in (1, 2, 3) for i in range(len(net.get_submodule(f"layer{stage}")))]


FAMILIES = {
    "CifarResNet": cifar_resnet,
    "WideResNet": wide_resnet,
    "VGG": vgg,
    "MobileNetV2": mobilenetv2,
    "ShuffleNetV1": shufflenetv1,
    "ShuffleNetV2": shufflenetv2,
    "ResNet": torchvision_resnet,
}


def foreign(net: nn.Module, counters: bool = True) -> dict[str, Tensor]:
    """A network's tensors as those repositories would save them: their names, their order, with BatchNorm's counters or not."""
    state = {}
    for theirs, ours in FAMILIES[type(net).__name__](net):
        for name, value in net.get_submodule(ours).state_dict().items():
            if counters or name != "num_batches_tracked":
                state[f"{theirs}.{name}"] = value
    return state


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network with numbers in all tensors that matter, BatchNorm's statistics too, in float64."""
    draw = torch.Generator().manual_seed(seed)
    net = net.double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                value.copy_(0.5 + torch.rand(value.shape, generator=draw, dtype=value.dtype))
    return net
