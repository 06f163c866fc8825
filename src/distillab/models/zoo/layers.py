"""Pieces that several families of the zoo are made of."""

from collections.abc import Callable

from torch import Tensor, nn


def convolution(
    in_channels: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    activation: bool = True,
) -> nn.Sequential:
    """Convolution that keeps the size (but for its stride), BatchNorm and, unless said, ReLU."""
    convolved = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
    activations = [nn.ReLU(inplace=True)] if activation else []
    return nn.Sequential(convolved, nn.BatchNorm2d(channels), *activations)


def stage(
    block: Callable[[int, int, int], nn.Module], in_channels: int, channels: int, blocks: int, *, stride: int
) -> nn.Sequential:
    """Blocks `(in_channels, channels, stride)` one after another, of which the first has the stride."""
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(1, blocks)))


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups, so that the next grouped convolution sees all of them."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def he_normal(net: nn.Module) -> None:
    """Fresh convolution weights that keep the variance of the gradient (He et al., arXiv 1502.01852)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
