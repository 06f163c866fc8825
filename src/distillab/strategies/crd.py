"""Contrastive representation distillation: tell a sample's embedding from those of other classes (arXiv 1910.10699)."""

import math
from dataclasses import KW_ONLY

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.core.gather import broadcast
from distillab.core.output import rank_zero_print
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, TeacherPass, Term
from distillab.strategies.parts.features import embedding_widths, unit
from distillab.strategies.parts.logits import at_least_float32

__all__ = ["crd_nce"]

EPSILON = 1e-7


def crd_nce(scores: Tensor, n_data: int) -> Tensor:
    """Noise-contrastive estimation of CRD (Tian, Krishnan, Isola, arXiv 1910.10699), for one of the two sides.

    With c = K / n_data: −log(x₀ / (x₀ + c + 1e-7)) − Σ_k log(c / (x_k + c + 1e-7)), mean over the batch. The scores
    x (B, K + 1), K > 0, are exp(similarity / temperature) / Z of the positive, then of K negatives among n_data.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise UserError(f"scores must be (B, K + 1) with at least one negative, got {tuple(scores.shape)}")
    if n_data < 1:
        raise UserError(f"n_data must be a number of samples from 1, got {n_data}")
    scores = at_least_float32(scores)
    positive, negatives = scores[:, 0], scores[:, 1:]
    c = negatives.shape[1] / n_data
    # A positive that underflowed to 0 has no logarithm; every other one keeps its exact value.
    log_positive = positive.clamp_min(torch.finfo(scores.dtype).tiny).log() - (positive + c + EPSILON).log()
    log_negatives = -torch.log1p((negatives + EPSILON) / c)
    return -(log_positive + log_negatives.sum(1)).mean()


class CRD(Term):
    """The term of `crd_nce` on both sides, with projections to `dimensions` and a memory of both sides' embeddings.

    A sample's projected embedding is compared with what the memory holds of it and of K = `negatives` samples of other
    classes on the other side (fewer, with a notice, where there are fewer); they are drawn with replacement, as
    noise-contrastive estimation supposes. The share `momentum` of an old embedding, from 0 to below 1, stays.
    """

    needs = ("student.embedding", "teacher.embedding", "batch.index", "batch.labels")  # the labels in `prepare`
    global_batch = True
    weight: Scheduled = 0.8
    _: KW_ONLY
    dimensions: int = 128
    negatives: int = 16384
    temperature: Scheduled = 0.07
    momentum: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be a number from 0 to below 1, got {self.momentum:g}")

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        of_student, of_teacher = embedding_widths(student, teacher)
        self.student_projection = nn.Linear(of_student, self.dimensions)
        self.teacher_projection = nn.Linear(of_teacher, self.dimensions)
        self.memory_seed = int(torch.randint(2**31, ()))
        for side in ("student", "teacher"):
            self.register_buffer(f"memory_{side}", torch.empty(0, self.dimensions))
            self.register_buffer(f"log_z_{side}", torch.tensor(math.inf))  # infinite until the first batch fixes it
        for name in ("by_class", "first", "count"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64), persistent=False)

    def prepare(self, labels: Tensor, teacher: TeacherPass) -> None:
        """Lay out the memory, and for each sample where its class stands among all samples sorted by class."""
        device = self.memory_student.device
        counts = labels.bincount()
        available = len(labels) - int(counts.max())
        if available == 0:
            raise UserError("crd contrasts samples of different classes, and the training data have one; take rkd")
        self.drawn = min(self.negatives, available)
        if self.drawn < self.negatives:
            rank_zero_print(f"crd: {self.drawn} negatives instead of {self.negatives}, all that the training data have")
        self.by_class = labels.argsort(stable=True).to(device)
        self.count = counts[labels].to(device)
        self.first = (counts.cumsum(0) - counts)[labels].to(device)
        generator = torch.Generator().manual_seed(self.memory_seed)
        bound = math.sqrt(3 / self.dimensions)  # vectors of length 1, on average
        for side in ("student", "teacher"):
            drawn = torch.rand(len(labels), self.dimensions, generator=generator)
            setattr(self, f"memory_{side}", ((2 * drawn - 1) * bound).to(device))

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`crd_nce` of both sides; in training the memory then moves towards the batch's embeddings."""
        if not len(self.by_class):
            raise UserError("crd has not seen the training data; fit with a distillab data module")
        index = batch.index
        of_student = unit(self.student_projection(student.embedding))
        of_teacher = unit(self.teacher_projection(teacher.embedding.detach()))
        compared = torch.cat([index[:, None], self._draw(index)], 1)
        loss = self._contrast("student", of_student, self.memory_teacher, compared)
        loss = loss + self._contrast("teacher", of_teacher, self.memory_student, compared)
        if self.training:
            self._remember("student", index, of_student)
            self._remember("teacher", index, of_teacher)
        return loss

    def _draw(self, index: Tensor) -> Tensor:
        """For each sample K others of other classes, (B, K), the same on all devices."""
        generator = torch.Generator(index.device).manual_seed(broadcast(int(torch.randint(2**62, (1,))), index.device))
        count, first = self.count[index, None], self.first[index, None]
        place = torch.randint(2**62, (len(index), self.drawn), generator=generator, device=index.device)
        place %= len(self.by_class) - count
        return self.by_class[place + count * (place >= first)]  # step over the sample's own class

    def _contrast(self, side: str, anchors: Tensor, memory: Tensor, compared: Tensor) -> Tensor:
        """One side's loss against the memory of the other."""
        # The product with the whole memory is far less work than to collect K of its rows for every sample.
        logits = (anchors @ memory.T).gather(1, compared) / self.temperature
        log_mean = logits.detach().flatten().logsumexp(0) - math.log(logits.numel())
        log_z = getattr(self, f"log_z_{side}")
        log_z = torch.where(log_z.isfinite(), log_z, log_mean + math.log(len(memory)))
        if self.training:
            setattr(self, f"log_z_{side}", log_z)
        return crd_nce((logits - log_z).exp(), len(memory))

    @torch.no_grad()
    def _remember(self, side: str, index: Tensor, embedding: Tensor) -> None:
        """Move the samples' places in a memory towards their embeddings; the old memory is still to be differentiated."""
        memory = getattr(self, f"memory_{side}")
        moved = self.momentum * memory[index] + (1 - self.momentum) * embedding
        setattr(self, f"memory_{side}", memory.index_copy(0, index, unit(moved)))
