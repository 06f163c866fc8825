"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) as views: each sample is mixed with another of its split.

Partner, coefficient and box of a sample are functions of (view seed, view number, sample index), so a teacher's output
for a mixed view can be replayed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from distillab.data.images.augment import Augment
from distillab.data.images.image_batch import ImageBatch, TensorViews
from distillab.data.images.strong import box
from distillab.data.labels import distributions
from distillab.data.seeded import Stream, random_bits, uniform

CELLS = 2**13  # of the table of quantiles; a power of two keeps the place in it exact


@dataclass(eq=False)
class MixedViews(TensorViews):
    """Decoded images in memory, each batch with the samples that are to be mixed in on the device."""

    view_seed: int = 0

    def batch(self, index: Tensor, number: int) -> ImageBatch:
        """The samples `index` (n,) and their partners, as they are stored."""
        batch = super().batch(index, number)
        batch.partners = super().batch(partners(self.view_seed, number, index, len(self)), number)
        return batch


def partners(view_seed: int, number: int, index: Tensor, size: int) -> Tensor:
    """Which of the `size` samples of the split is mixed into each sample: (N,) int64 → (N,) int64."""
    bits = random_bits(view_seed, number, index, Stream.PARTNER)
    return (bits & (2**63 - 1)) % size


def mixed(views: list[Tensor], batch: ImageBatch, augment: Augment, classes: int) -> tuple[list[Tensor], Tensor]:
    """Mix augmented views (N, C, H, W) in [0, 1] with the partners' weak ones; all of a sample get the same part.

    Partners that are read from files come with their augmentation.

    Returns the mixed views, and their labels (N, classes) float32, which sum to 1.
    """
    partners = batch.partners
    weak = partners.pixels[0]
    if not partners.augmented:
        weak = augment(weak, partners.index, partners.view_number)
    weak = weak.float().div_(255)
    own, share = shares(augment, batch.index, batch.view_number, weak.shape[-1])
    labels, others = (distributions(y, classes) for y in (batch.labels, partners.labels))
    return [mix(view, weak, own) for view in views], mix(labels, others, share)


def shares(augment: Augment, index: Tensor, number: int, size: int) -> tuple[Tensor, Tensor]:
    """How much of each sample (N,) stays its own, in [0, 1]: of each pixel (N, 1, H, W) and of the labels (N, 1)."""

    def draw(stream: Stream) -> Tensor:
        return uniform(augment.view_seed, number, index, stream)

    chance = draw(Stream.MIX)
    if not augment.cutmix:
        share = beta(chance, augment.mixup)[:, None]
        return share[..., None, None].expand(-1, 1, size, size), share
    own = outside_box(beta(chance, augment.cutmix), draw(Stream.BOX_ROW), draw(Stream.BOX_COLUMN), size)
    cut = own.sum((1, 2))[:, None] / size**2  # of whole numbers, so exact
    if not augment.mixup:
        return own[:, None], cut
    share, cuts = beta(chance, augment.mixup)[:, None], (draw(Stream.CUT) < 0.5)[:, None]
    return torch.where(cuts[..., None, None], own[:, None], share[..., None, None]), torch.where(cuts, cut, share)


def outside_box(share: Tensor, row: Tensor, column: Tensor, size: int) -> Tensor:
    """CutMix's mask (N, H, W): 0 in a square box, 1 around it; what of the box lies beyond the borders is lost.

    `share` (N,) of the area stays outside a box that lies wholly inside; row and column (N,) in [0, 1) are its centre.
    """
    side = ((1 - share).sqrt() * size).long()
    return (~box(side, (row, column), (size, size))).float()


def mix(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """`share` of one and the rest of the other: two tensors of one shape and a share that broadcasts to it."""
    return share * own + (1 - share) * other


def beta(chance: Tensor, alpha: float) -> Tensor:
    """Quantiles of Beta(alpha, alpha): uniform (N,) in [0, 1) → (N,) float32, the same bits on every device."""
    table = _quantiles(alpha, chance.device)
    place = chance * CELLS
    cell = place.long()
    return table[cell] + (place - cell) * (table[cell + 1] - table[cell])


@lru_cache
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    """The quantiles at 0, 1 / CELLS, …, 1."""
    from scipy.special import betaincinv  # slow to import, and few runs mix

    quantiles = betaincinv(alpha, alpha, np.linspace(0, 1, CELLS + 1))
    return torch.from_numpy(quantiles).to(device, torch.float32)
