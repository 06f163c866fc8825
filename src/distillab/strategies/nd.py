"""Norm and direction: embeddings long, along the teacher's class mean (Wang et al., arXiv 2305.17007)."""

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.core.gather import gather
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, TeacherPass, Term
from distillab.strategies.parts.features import checked, embedding_widths, root, unit
from distillab.strategies.parts.logits import check_labels

__all__ = ["nd"]


def nd(e_s: Tensor, e_t: Tensor, centers: Tensor, y: Tensor) -> Tensor:
    """Mean of 1 − ⟨e_s, c/‖c‖⟩ / max(‖e_s‖, ‖e_t‖), c the centre of the sample's class; in [0, 2] (arXiv 2305.17007).

    Embeddings (N, d), the student's from a connector where its width is another; the teacher's class means (C, d), without
    gradient; int64 y (N,).
    """
    if e_s.shape != e_t.shape or centers.ndim != 2 or centers.shape[1:] != e_s.shape[1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (e_s, e_t, centers))
        raise UserError(f"e_s, e_t and centers must be (N, d), (N, d) and (C, d) of one d, got {shapes}")
    if y.shape != e_s.shape[:1] or y.dtype != torch.int64:
        raise UserError(f"y must be ({len(e_s)},) in int64, a label for each row, got {tuple(y.shape)} in {y.dtype}")
    check_labels(y, len(centers))
    e_s, e_t = checked("N, d", e_s=e_s, e_t=e_t.detach())
    along = (e_s * unit(centers.detach().to(e_s.dtype))[y]).sum(1)
    longer = torch.maximum(*(root(e.square().sum(1)) for e in (e_s, e_t)))
    return (1 - along / torch.where(longer > 0, longer, 1)).mean()


class NormDirection(Term):
    """The term of `nd`; a connector (BatchNorm, dropout, linear layer) only where the embeddings have unequal widths."""

    needs = ("student.embedding", "teacher.embedding", "batch.labels")
    smallest_batch = 2  # the connector's BatchNorm has one value of each channel for a sample
    ready_teacher = True
    weight: Scheduled = 2.0

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        inputs, width = embedding_widths(student, teacher)
        layers = (nn.BatchNorm1d(inputs), nn.Dropout(0.5), nn.Linear(inputs, width)) if inputs != width else ()
        self.connector = nn.Sequential(*layers)
        self.register_buffer("centers", torch.zeros(teacher.outputs, width))

    def prepare(self, labels: Tensor, teacher: TeacherPass) -> None:
        """The teacher's mean embedding of each class over all training samples."""
        sums = sum(self._sums(outputs.embedding, batch.labels) for outputs, batch in teacher())
        sums = gather(sums[None]).sum(0)  # each device has seen its part of the images
        self.centers.copy_(sums[:, :-1] / sums[:, -1:].clamp(min=1))

    def _sums(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Sum of each class's embeddings, and last their number: (C, d + 1)."""
        counted = torch.cat([embedding.detach(), torch.ones_like(embedding[:, :1])], 1).to(self.centers)
        return counted.new_zeros(len(self.centers), counted.shape[1]).index_add_(0, labels, counted)

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`nd`; a class whose centre is not known yet has that of the batch."""
        of_batch = self._sums(teacher.embedding, batch.labels)[:, :-1]
        centers = torch.where(self.centers.any(1, keepdim=True), self.centers, of_batch)
        return nd(self.connector(student.embedding), teacher.embedding, centers, batch.labels)
