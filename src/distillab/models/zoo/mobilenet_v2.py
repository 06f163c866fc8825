"""MobileNetV2 for small images: inverted residuals with linear bottlenecks."""

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.zoo.layers import convolution, he_normal

EMBEDDING = 1280
STAGES = (  # groups of blocks: expansion, channels at full width, blocks, stride of the first
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


class InvertedResidual(nn.Module):
    """1×1 convolution to more channels, 3×3 depthwise, 1×1 back without activation; a shortcut where shapes agree."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.residual = nn.Sequential(
            convolution(in_channels, wide, 1),
            convolution(wide, wide, 3, stride, groups=wide),
            convolution(wide, channels, 1, activation=False),
        )
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, channels, H / stride, W / stride), which may be negative."""
        return x + self.residual(x) if self.adds else self.residual(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al., arXiv 1801.04381), with the strides that the distillation literature has on CIFAR.

    Its stages end in linear bottlenecks: what they show is its own pre-activation. `final` is the map behind the
    last stage whose mean is the embedding. `width` multiplies the channels of all but the embedding (0.5 in the
    distillation literature); UserError for one that leaves a layer without channels.
    """

    def __init__(self, width: float = 0.5, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if int(16 * width) < 1:
            raise UserError(f"width must be at least 1/16, got {width}")
        self.channels = int(32 * width)
        self.conv1 = convolution(in_channels, self.channels, 3, stride=2)
        self.layer1, self.layer2, self.layer3, self.layer4 = (self._stage(stage, width) for stage in STAGES)
        self.final = convolution(self.channels, EMBEDDING, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(EMBEDDING, num_classes)
        he_normal(self)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def _stage(self, groups: tuple[tuple[int, int, int, int], ...], width: float) -> nn.Sequential:
        blocks = []
        for expansion, full, count, first in groups:
            for stride in [first] + [1] * (count - 1):
                blocks.append(InvertedResidual(self.channels, int(full * width), stride, expansion))
                self.channels = int(full * width)
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → logits (N, num_classes)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.fc(torch.flatten(self.pool(self.final(x)), 1))
