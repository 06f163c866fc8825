"""Class attention transfer: where in the image each class is seen (Guo et al., CVPR 2023, arXiv 2304.12777)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled, check_whole
from distillab.strategies.parts.features import ReadByHead, checked, unit

__all__ = ["class_attention"]


def class_attention(A_s: Tensor, A_t: Tensor, resolution: int = 2, normalize: bool = True) -> Tensor:
    """Mean squared difference of class activation maps (N, classes, H, W), whose sizes may differ (arXiv 2304.12777).

    They are average-pooled to `resolution` cells a side, from 1, and then, with `normalize`, divided by their L2 norms.
    """
    check_whole(resolution=resolution)
    A_s, A_t = checked("N, C, H, W", A_s=A_s, A_t=A_t.detach())
    if A_s.shape[1] != A_t.shape[1]:
        raise UserError(f"A_s and A_t must have a map for each class, got {A_s.shape[1]} and {A_t.shape[1]}")
    A_s, A_t = (F.adaptive_avg_pool2d(x, resolution).flatten(2) for x in (A_s, A_t))
    return F.mse_loss(unit(A_s), unit(A_t)) if normalize else F.mse_loss(A_s, A_t)


class ClassAttention(ReadByHead):
    """The term of `class_attention` on the last maps."""

    weight: Scheduled = 15.0
    resolution: int = 2
    normalize: bool = False

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        self.check_heads(student, teacher)
        # The head's weights at every place; its bias is the same at all of them.
        maps = (F.conv2d(outputs.last_map, outputs.head.weight[:, :, None, None]) for outputs in (student, teacher))
        return class_attention(*maps, self.resolution, self.normalize)
