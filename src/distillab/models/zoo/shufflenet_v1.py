"""ShuffleNet v1 for small images: grouped 1×1 convolutions with a channel shuffle between them."""

import torch
from torch import Tensor, nn

from distillab.models.zoo.layers import convolution, shuffle, stage

STEM = 24
GROUPS = 3
CHANNELS = (240, 480, 960)
BLOCKS = (4, 8, 4)


class ShuffleUnit(nn.Module):
    """Grouped 1×1 convolution, shuffle, 3×3 depthwise, grouped 1×1; added to its input, or beside it at stride 2."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        own = channels - in_channels if stride == 2 else channels  # the pooled input is the rest
        narrow = own // 4
        self.groups = 1 if in_channels == STEM else GROUPS  # too few channels behind the stem to group them
        self.reduce = convolution(in_channels, narrow, 1, groups=self.groups)
        self.expand = nn.Sequential(
            convolution(narrow, narrow, 3, stride, groups=narrow),
            convolution(narrow, own, 1, groups=GROUPS, activation=False),
        )
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, channels, H / stride, W / stride)."""
        y = self.expand(shuffle(self.reduce(x), self.groups))
        return self.relu(y + x if self.shortcut is None else torch.cat([y, self.shortcut(x)], 1))


class ShuffleNetV1(nn.Module):
    """ShuffleNet with three groups (Zhang et al., arXiv 1707.01083), with a 1×1 stem of stride 1 for small images."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, STEM, 1)
        shapes = zip((STEM, *CHANNELS), CHANNELS, BLOCKS, strict=False)
        self.layer1, self.layer2, self.layer3 = (stage(ShuffleUnit, *shape, stride=2) for shape in shapes)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(CHANNELS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → logits (N, num_classes)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(x), 1))
