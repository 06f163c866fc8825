"""Singular vectors: how the main directions of neighbouring maps relate (Lee, Kim, Song, ECCV 2018)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs
from distillab.strategies.parts.features import NeighbouringStages, check_same_channels, checked, inner

__all__ = ["kdsvd"]

CANDIDATES = 4  # student vectors among which the teacher's has its partner


def first_vector(x: Tensor) -> Tensor:
    """First right singular vector, its largest entry positive so that all devices agree: (N, P, C) → (N, C)."""
    vector = torch.linalg.svd(x, full_matrices=False)[2][:, 0]
    return vector * vector.gather(1, vector.abs().argmax(1, keepdim=True)).sign()


class AlignedVector(torch.autograd.Function):
    """The one of the first right singular vectors of x (N, P, C) that lies along a vector (N, C), with its sign.

    torch's own gradient of the decomposition is NaN where any two singular values are equal, and a map of dead channels
    has many zeros. This one needs only what the chosen vector depends on, and leaves out what is infinite.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, vector: Tensor) -> Tensor:
        _, values, vectors = torch.linalg.svd(x, full_matrices=False)
        cosine = (vectors[:, :CANDIDATES] * vector[:, None]).sum(2)
        choice = cosine.abs().argmax(1, keepdim=True)
        aligned = vectors.gather(1, choice[:, :, None].expand(-1, -1, x.shape[2]))[:, 0]
        aligned = aligned * torch.where(cosine.gather(1, choice) < 0, -1, 1)
        ctx.save_for_backward(x, values, vectors, choice, aligned)
        return aligned

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # v is an eigenvector of xᵀx: dv = Σ_m v_m ⟨v_m, d(xᵀx) v⟩ / (σ² − σ_m²) over the others, σ_m = 0 outside the rows
        x, values, vectors, choice, aligned = ctx.saved_tensors
        own, rounding = values.gather(1, choice), values[:, :1] * 4 * torch.finfo(x.dtype).eps
        within = inner(gradient[:, None], vectors)[:, 0]
        outside = gradient - combined(within, vectors)
        turn = combined(within * inverse_gap(own, values, rounding), vectors) + outside * inverse_gap(own, 0, rounding)
        along, across = (inner(x, v[:, None]) for v in (aligned, turn))
        return along * turn[:, None] + across * aligned[:, None], None


def combined(factors: Tensor, vectors: Tensor) -> Tensor:
    """Sum of the vectors times their factors: (N, k), (N, k, C) → (N, C)."""
    return inner(factors[:, None], vectors.mT)[:, 0]


def inverse_gap(own: Tensor, others: Tensor | float, rounding: Tensor) -> Tensor:
    """1 / (own² − others²), and 0 where they are equal but for rounding."""
    gap = own - others
    real = gap.abs() > rounding
    return torch.where(real, 1 / torch.where(real, gap * (own + others), 1), 0)


def kdsvd(stages_s: Sequence[Tensor], stages_t: Sequence[Tensor]) -> Tensor:
    """Squared difference of RBF relations between neighbouring stages' singular vectors (Lee, Kim, Song, ECCV 2018).

    Each of two or more maps (N, C, H, W), by depth, is a matrix of pixels × channels (equal C on both sides). Of the
    teacher's the first right singular vector counts, of the student's the one of the first four that is most along it.
    Relations exp(−(v_i − u_j)² / 8) of all channel pairs; squared differences are summed, over the batch size.
    Differentiable once: singular vectors whose values coincide have no derivative, so that infinite parts are left out.
    """
    if len(stages_s) != len(stages_t) or len(stages_s) < 2:
        counts = f"{len(stages_s)} and {len(stages_t)}"
        raise UserError(f"stages_s and stages_t must be equally many maps, two or more, got {counts}")
    found = []
    for F_s, F_t in zip(stages_s, stages_t, strict=True):
        F_s, F_t = checked("N, C, H, W", stages_s=F_s, stages_t=F_t.detach())
        check_same_channels(stages_s=F_s, stages_t=F_t)
        F_s, F_t = (torch.nan_to_num(x, posinf=0, neginf=0).flatten(2).mT for x in (F_s, F_t))
        vector = first_vector(F_t)
        found.append((AlignedVector.apply(F_s, vector), vector))
    losses = [
        (relation(above_s, below_s) - relation(above_t, below_t)).square().sum() / len(above_s)
        for (below_s, below_t), (above_s, above_t) in pairwise(found)
    ]
    return torch.stack(losses).sum()


def relation(above: Tensor, below: Tensor) -> Tensor:
    """exp(−(above_i − below_j)² / 8) of all pairs: (N, C), (N, C') → (N, C, C')."""
    return (-(above[:, :, None] - below[:, None]).square() / 8).exp()


class KDSVD(NeighbouringStages):
    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        return kdsvd([student.stages[i] for i, _ in self.pairs], [teacher.stages[j] for _, j in self.pairs])
