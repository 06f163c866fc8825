"""Class attention transfer: where in the image each class is seen (Guo et al., CVPR 2023, arXiv 2304.12777)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled
from distillab.strategies.parts.features import ReadByHead, check_same, checked, unit

__all__ = ["class_attention"]


def check_resolution(resolution: int) -> None:
    """Refuse what is no number of cells."""
    if not isinstance(resolution, int) or resolution < 1:
        raise UserError(f"resolution must be a whole number from 1, got {resolution!r}")


def class_attention(A_s: Tensor, A_t: Tensor, resolution: int = 2, normalize: bool = True) -> Tensor:
    """Mean squared difference of class activation maps, average-pooled to a few cells (arXiv 2304.12777).

    Args:
        A_s: student class activation maps (N, classes, H_s, W_s).
        A_t: teacher class activation maps (N, classes, H_t, W_t); receive no gradient.
        resolution: cells of a side after the pooling, a whole number from 1.
        normalize: divide each map by its L2 norm, after the pooling.

    Raises:
        UserError: not two maps of one batch size and as many classes, or no such resolution.
    """
    check_resolution(resolution)
    A_s, A_t = checked("N, C, H, W", A_s=A_s, A_t=A_t.detach())
    if A_s.shape[1] != A_t.shape[1]:
        raise UserError(f"A_s and A_t must have a map for each class, got {A_s.shape[1]} and {A_t.shape[1]}")
    A_s, A_t = (F.adaptive_avg_pool2d(x, resolution).flatten(2) for x in (A_s, A_t))
    return F.mse_loss(unit(A_s), unit(A_t)) if normalize else F.mse_loss(A_s, A_t)


class ClassAttention(ReadByHead):
    """The term of `class_attention` on the last maps.

    Args:
        resolution: cells of a side after the pooling, a whole number from 1.
        normalize: divide each map by its L2 norm, after the pooling.

    Raises:
        UserError: a resolution out of its range, or a model whose head does not read the mean of its last map.
    """

    needs = tuple(f"{role}.{name}" for role in ("student", "teacher") for name in ("logits", "last_map", "head"))

    def __init__(self, weight: Scheduled = 15.0, resolution: int = 2, normalize: bool = False) -> None:
        super().__init__(weight)
        check_resolution(resolution)
        self.resolution, self.normalize = resolution, normalize

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """A scalar."""
        if not self.training:  # as in the trial before the first step, where no dropout comes between
            for info, outputs in zip(self.infos, (student, teacher), strict=True):
                logits = F.linear(outputs.last_map.mean((2, 3)), outputs.head.weight, outputs.head.bias)
                check_same(logits, outputs.logits, info)
        # The head's weights at every place; its bias is the same at all of them.
        maps = (F.conv2d(outputs.last_map, outputs.head.weight[:, :, None, None]) for outputs in (student, teacher))
        return class_attention(*maps, self.resolution, self.normalize)
