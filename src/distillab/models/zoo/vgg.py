"""VGG with BatchNorm and one linear layer, for small images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.zoo.layers import convolution, he_normal

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {  # depth: convolutions of each of the five layers
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def _at_most_halved(x: Tensor) -> Tensor:
    """Maps larger than 4×4, max-pooled to half their size."""
    return F.max_pool2d(x, 2) if x.shape[-1] > 4 else x


torch.fx.wrap("_at_most_halved")  # one step to whoever follows the network's calls without an image


class VGG(nn.Module):
    """VGG for small images (Simonyan, Zisserman, arXiv 1409.1556), as in the distillation literature.

    Between the layers, maps are max-pooled to half their size; before the last one only where they are larger than
    4×4, so images of 32 pixels end in 4×4 and images of 64 do too. `depth` is 8, 11, 13, 16 or 19; UserError for others.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise UserError(f"depth must be one of {', '.join(map(str, CONVOLUTIONS))}, got {depth}")
        shapes = zip((in_channels, *CHANNELS), CHANNELS, CONVOLUTIONS[depth], strict=False)
        self.layer0, self.layer1, self.layer2, self.layer3, self.layer4 = (self._layer(*shape) for shape in shapes)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(CHANNELS[-1], num_classes)
        he_normal(self)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    @staticmethod
    def _layer(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
        blocks = [convolution(c, channels, 3, bias=True) for c in [in_channels] + [channels] * (convolutions - 1)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) with H, W from 8 → logits (N, num_classes)."""
        x = self.layer0(x)
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(F.max_pool2d(x, 2))
        x = self.layer4(_at_most_halved(x))
        return self.fc(torch.flatten(self.pool(x), 1))
