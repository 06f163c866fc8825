"""ShuffleNet v2 for small images: half of the channels pass, half are convolved, then all are shuffled."""

import torch
from torch import Tensor, nn

from distillab.models.zoo.layers import convolution, shuffle, stage

STEM = 24
CHANNELS = (116, 232, 464)
BLOCKS = (4, 8, 4)
EMBEDDING = 1024


class ShuffleUnit(nn.Module):
    """Two branches of half the channels each, shuffled; the left one passes its input on where the stride is 1.

    One ReLU stands behind the shuffle, for both branches: it changes nothing in channels that pass (they come out of
    a ReLU), and what goes into it is the whole map before the activation.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.left = None
        if stride == 2:
            self.left = nn.Sequential(
                convolution(in_channels, in_channels, 3, stride, groups=in_channels, activation=False),
                convolution(in_channels, half, 1, activation=False),
            )
        self.right = nn.Sequential(
            convolution(in_channels if stride == 2 else half, half, 1),
            convolution(half, half, 3, stride, groups=half, activation=False),
            convolution(half, half, 1, activation=False),
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, channels, H / stride, W / stride)."""
        left, right = x.chunk(2, dim=1) if self.left is None else (self.left(x), x)
        return self.relu(shuffle(torch.cat([left, self.right(right)], 1), 2))


class ShuffleNetV2(nn.Module):
    """ShuffleNet v2 at width 1 (Ma et al., arXiv 1807.11164), with a 1×1 stem of stride 1 for small images.

    `final` is the map behind the last stage whose mean is the embedding.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, STEM, 1)
        shapes = zip((STEM, *CHANNELS), CHANNELS, BLOCKS, strict=False)
        self.layer1, self.layer2, self.layer3 = (stage(ShuffleUnit, *shape, stride=2) for shape in shapes)
        self.final = convolution(CHANNELS[-1], EMBEDDING, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(EMBEDDING, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → logits (N, num_classes)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(self.final(x)), 1))
