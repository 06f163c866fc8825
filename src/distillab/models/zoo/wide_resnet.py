"""Wide ResNets: three stages of pre-activation blocks behind a 3×3 stem."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.zoo.layers import he_normal


class PreactivationBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3×3 convolutions; where the channels change, a 1×1 shortcut after the first.

    An `activated` input has been through BatchNorm and ReLU already.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, activated: bool) -> None:
        super().__init__()
        self.activate = nn.Sequential(*([] if activated else [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]))
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
        )
        changes = in_channels != channels
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, channels, H / stride, W / stride), a sum that may be negative."""
        activated = self.activate(x)
        return self.residual(activated) + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """Wide ResNet for small images (Zagoruyko, Komodakis, arXiv 1605.07146), without dropout.

    A stage's map is the raw sum of its last block, `layer1.sum`, whatever the depth. The BatchNorm and ReLU that open the
    next stage are kept behind it in the same `layer1`, which computes the same: the pre-activation is between these two.
    `depth` is 6n + 4 (16, 22, 28, 40, …), `width` multiplies the stages' 16, 32 and 64 channels; UserError for others.
    """

    def __init__(self, depth: int, width: int = 1, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise UserError(f"depth must be 6n + 4 (10, 16, 22, 28, 40, …), got {depth}")
        if width < 1:
            raise UserError(f"width must be a whole number from 1, got {width}")
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.layer1 = self._stage(16, 16 * width, blocks, stride=1, activated=False)
        self.layer2 = self._stage(16 * width, 32 * width, blocks, stride=2, activated=True)
        self.layer3 = self._stage(32 * width, 64 * width, blocks, stride=2, activated=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, num_classes)
        he_normal(self)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, *, stride: int, activated: bool) -> nn.Sequential:
        first = PreactivationBlock(in_channels, channels, stride, activated)
        others = (PreactivationBlock(channels, channels, 1, activated=False) for _ in range(blocks - 1))
        layers = {str(number): block for number, block in enumerate((first, *others))} | {"sum": nn.Identity()}
        after = {str(blocks): nn.BatchNorm2d(channels), str(blocks + 1): nn.ReLU(inplace=True)}
        return nn.Sequential(OrderedDict(layers | after))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → logits (N, num_classes)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(x), 1))
