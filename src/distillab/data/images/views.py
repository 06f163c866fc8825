"""Crop and flip on image tensors, by seeded random numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distillab.data.seeded import Draw, Stream


def random_crop(images: Tensor, padding: int, draw: Draw) -> Tensor:
    """Pad images (N, C, H, W) with zeros on every side and cut out the original size at a random place."""
    count, _, height, width = images.shape
    top, left = ((draw(stream) * (2 * padding + 1)).long() for stream in (Stream.CROP_ROW, Stream.CROP_COLUMN))
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    sample = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, [padding] * 4).permute(0, 2, 3, 1)
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def horizontal_flip(images: Tensor, draw: Draw) -> Tensor:
    """Mirror each image of (N, C, H, W) left to right with probability one half."""
    return torch.where((draw(Stream.FLIP) < 0.5)[:, None, None, None], images.flip(-1), images)
