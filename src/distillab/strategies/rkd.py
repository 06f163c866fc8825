"""Relational distillation: distances and angles among the images of a batch (Park et al., arXiv 1904.05068)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from distillab.core.errors import UserError
from distillab.strategies.base import Scheduled, Term
from distillab.strategies.parts.features import checked, inner, root, unit

__all__ = ["rkd_angle", "rkd_distance"]

ELEMENTS = 2**22  # of the largest tensor that is held at a time: 16 MiB in float32


def over_anchors(part: Callable[..., Tensor], *embeddings: Tensor) -> list[Tensor]:
    """`part` of the rows, as many at a time as memory allows; of several parts the backward pass computes each anew."""
    count = len(embeddings[0])
    at_once = max(1, ELEMENTS // (count * max(count, *(e.shape[1] for e in embeddings))))
    if at_once >= count:
        return [part(*embeddings)]
    parts = zip(*(e.split(at_once) for e in embeddings), strict=True)
    return [checkpoint(part, *rows, use_reentrant=False, preserve_rng_state=False) for rows in parts]


def distances(e: Tensor) -> Tensor:
    """L2 distances of all pairs, over the mean of those above 0: (N, d) → (N, N)."""

    def part(anchors: Tensor) -> Tensor:
        return root((anchors[:, None] - e).square().sum(-1))

    distance = torch.cat(over_anchors(part, e))
    count = (distance > 0).sum()
    return distance / torch.where(count > 0, distance.sum() / count.clamp(min=1), 1)


def cosines(anchors: Tensor, e: Tensor) -> Tensor:
    """Cosine of the angle at each anchor between all pairs: (n, d), (N, d) → (n, N, N); 0 where rows are equal."""
    direction = unit(e - anchors[:, None])
    return inner(direction, direction)


def rkd_distance(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Smooth-L1 of all pairs' distances over their mean positive one, of (N, d), N > 1 (arXiv 1904.05068)."""
    e_s, e_t = checked("N, d", e_s=e_s, e_t=e_t.detach())
    if len(e_s) < 2:
        raise UserError("e_s must have at least 2 rows: their distances are compared")
    return F.smooth_l1_loss(distances(e_s), distances(e_t))


def rkd_angle(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Smooth-L1 of the cosines of all triplets (arXiv 1904.05068); 0 for fewer than three embeddings (N, d).

    Two equal rows have no direction from one to the other: their cosines are 0 and carry no gradient.
    """
    e_s, e_t = checked("N, d", e_s=e_s, e_t=e_t.detach())

    def part(anchors_s: Tensor, anchors_t: Tensor) -> Tensor:
        return F.smooth_l1_loss(cosines(anchors_s, e_s), cosines(anchors_t, e_t), reduction="sum")

    return torch.stack(over_anchors(part, e_s, e_t)).sum() / len(e_s) ** 3


class RKDDistance(Term, loss=rkd_distance):
    needs = ("student.embedding", "teacher.embedding")
    global_batch = True
    smallest_batch = 2
    weight: Scheduled = 25.0


class RKDAngle(Term, loss=rkd_angle):
    needs = ("student.embedding", "teacher.embedding")
    global_batch = True
    weight: Scheduled = 50.0
