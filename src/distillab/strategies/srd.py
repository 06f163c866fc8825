"""Simple recipe distillation: standardised embeddings, and the logarithm of their differences (arXiv 2303.11098)."""

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.features import check_same_shape, checked, embedding_widths

__all__ = ["srd"]


def srd(e_s: Tensor, e_t: Tensor, eps: float = 1e-4) -> Tensor:
    """log Σ (ê_s − ê_t)⁴ over all entries of embeddings (N, d), N > 1 (Miles, Mikolajczyk, arXiv 2303.11098).

    ê is the embedding standardised over the batch, channel by channel: (e − mean) / √(variance + eps), the variance over
    N, not N − 1, as BatchNorm without scale and shift. The student's mean and variance carry gradient.
    """
    check_same_shape(e_s=e_s, e_t=e_t)
    if len(e_s) < 2:
        raise UserError("e_s must have at least 2 rows: each channel is standardised over the batch")
    e_s, e_t = (_standardised(e, eps) for e in checked("N, d", e_s=e_s, e_t=e_t.detach()))
    total = (e_s - e_t).square().square().sum()
    return total.clamp_min(torch.finfo(total.dtype).tiny).log()  # equal embeddings: a finite value, no gradient


def _standardised(e: Tensor, eps: float) -> Tensor:
    centred = e - e.mean(0)
    return centred / (centred.square().mean(0) + eps).sqrt()


class SRD(Term):
    """The term of `srd`, with a linear projector of the student's embedding to the width of the teacher's.

    There is one for equal widths too: the paper shows that it keeps the batch relations of past steps.
    """

    needs = ("student.embedding", "teacher.embedding")
    global_batch = True
    smallest_batch = 2
    weight: Scheduled = 2.0

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        self.projector = nn.Linear(*embedding_widths(student, teacher), bias=False)  # which the mean would take away

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        return srd(self.projector(student.embedding), teacher.embedding)
