"""The ResNets of CIFAR: three stages of basic blocks behind a 3×3 stem."""

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.zoo.layers import he_normal, stage


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, channels, H / stride, W / stride)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet for small images (He et al., arXiv 1512.03385, section 4.2), with optional wider stages.

    `depth` is 6n + 2 (8, 14, 20, 32, 56, 110, …), `width` multiplies the stages' 16, 32 and 64 channels (4 gives the
    `8x4` and `32x4` of the KD literature); UserError for others.
    """

    def __init__(
        self, depth: int, width: int = 1, stem_channels: int = 16, *, num_classes: int = 10, in_channels: int = 3
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UserError(f"depth must be 6n + 2 (8, 14, 20, 32, …), got {depth}")
        if width < 1:
            raise UserError(f"width must be a whole number from 1, got {width}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, stem_channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(BasicBlock, stem_channels, 16 * width, blocks, stride=1)
        self.layer2 = stage(BasicBlock, 16 * width, 32 * width, blocks, stride=2)
        self.layer3 = stage(BasicBlock, 32 * width, 64 * width, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, num_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → logits (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.pool(x), 1))
