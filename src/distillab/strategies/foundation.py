"""Learning from a frozen backbone: neighbours in a queue of its embeddings, and among the places of an image."""

from dataclasses import KW_ONLY

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.connectors import resized
from distillab.strategies.parts.features import check_same_shape, checked, embedding_widths, inner, unit
from distillab.strategies.parts.logits import LEAST, check_positive, kl

__all__ = ["neighbour_kl", "patch_kl"]


def neighbour_kl(
    e_s: Tensor, e_t: Tensor, anchors: Tensor, temperature: float = 0.07, known: Tensor | None = None
) -> Tensor:
    """Mean over N of KL(softmax(a · ê_t / τ) ‖ softmax(a · ê_s / τ)), over the M anchors a (SEED, arXiv 2101.04731).

    Embeddings (N, d) are L2-normalised here; anchors (M, d) have length 1 and receive no gradient, nor does e_t. `known`,
    bool (M,), leaves out the anchors where it is False; None: none.
    """
    check_positive(temperature=temperature)
    check_same_shape(e_s=e_s, e_t=e_t)
    if anchors.ndim != 2 or anchors.shape[1:] != e_s.shape[1:]:
        raise UserError(f"anchors must be (M, {e_s.shape[-1]}), of the embeddings' width, got {tuple(anchors.shape)}")
    e_s, e_t = checked("N, d", e_s=e_s, e_t=e_t.detach())
    alike = (inner(unit(e), anchors.detach().to(e.dtype)) / temperature for e in (e_s, e_t))
    if known is not None:
        alike = (x.masked_fill(~known, LEAST) for x in alike)
    log_s, log_t = (F.log_softmax(x, dim=-1) for x in alike)
    return kl(log_t, log_s).mean()


def patch_kl(F_s: Tensor, F_t: Tensor, temperature: float = 0.07) -> Tensor:
    """Mean over places and N of KL(softmax(x̂_i · x̂_j / τ) ‖ of the student), softmax over the places j of an image.

    Maps (N, C, H, W); x̂_i is the L2-normalised vector of a place. The teacher's map may have other channels, and is
    resized to the student's H × W first. τ > 0; the place itself is among the j.
    """
    check_positive(temperature=temperature)
    F_s, F_t = checked("N, C, H, W", F_s=F_s, F_t=F_t.detach())
    sides = (unit(x.flatten(2).mT) for x in (F_s, resized(F_t, tuple(F_s.shape[2:]))))
    log_s, log_t = (F.log_softmax(inner(x, x) / temperature, dim=-1) for x in sides)
    return kl(log_t, log_s).mean()


class Foundation(Term):
    """The term of `neighbour_kl`: the anchors are the batch's embeddings by the teacher, and the `queue` last ones before.

    The student's embedding goes through a linear projector to the teacher's width: what it then knows of the teacher's
    neighbours lies in the embedding itself, where a linear probe finds it, and not in layers that are thrown away. The
    queue is empty at first, grows with the training, is the same on all devices, and lies in checkpoints.
    """

    needs = ("student.embedding", "teacher.embedding")
    global_batch = True
    weight: Scheduled = 1.0
    _: KW_ONLY
    queue: int = 16384
    temperature: Scheduled = 0.07

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        inputs, width = embedding_widths(student, teacher)
        self.projector = nn.Linear(inputs, width)
        self.register_buffer("remembered", torch.zeros(self.queue, width))  # newest first
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))  # so many of them are known

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`neighbour_kl`; in training the queue then takes up the batch."""
        newest = unit(teacher.embedding.detach().to(self.remembered))
        anchors = torch.cat([newest, self.remembered])
        # Asked on the device: the host does not wait for it.
        known = torch.arange(len(anchors), device=anchors.device) < len(newest) + self.filled
        projected = self.projector(student.embedding)
        loss = neighbour_kl(projected, teacher.embedding, anchors, self.temperature, known)
        if self.training:
            self.remembered.copy_(anchors[: self.queue])
            self.filled.add_(len(newest)).clamp_(max=self.queue)
        return loss


class Patches(Term, loss=patch_kl):
    """The term of `patch_kl` on the deepest maps that have more than one place."""

    needs = ("student.stages", "teacher.stages")
    weight: Scheduled = 1.0
    temperature: Scheduled = 0.07

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Choose the maps; a model without such a one is refused."""
        self.pair = [_deepest(role, info) for role, info in (("student", student), ("teacher", teacher))]

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        own, other = self.pair
        return patch_kl(student.stages[own], teacher.stages[other], **self.numbers())


def _deepest(role: str, info: FeatureInfo) -> int:
    """The number of the last stage of more than one place."""
    wide = [i for i, stage in enumerate(info.stages) if stage.height * stage.width > 1]
    if not wide:
        raise UserError(
            f"compares the places of a map, and those of {info.name} have one each; name others with {role}.stages=[…], "
            f"or leave it out with ~strategy.patches"
        )
    return wide[-1]
