"""Hidden states of a transformer's layers (TinyBERT, arXiv 1909.10351)."""

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.models.feature_info import FeatureInfo, match_stages
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.logits import widened

__all__ = ["hidden_mse"]

SMALLEST = 1e-6  # a teacher's state of zeros has no scale


def hidden_mse(s: Tensor, t: Tensor, mask: Tensor | None = None, relative: bool = False) -> Tensor:
    """Mean squared difference of hidden states (N, L, d) over the positions that count and their channels.

    `mask`, bool (N, L), is True for the positions that count; None: all. 0 where none does. `relative` measures each
    position in the teacher's mean square there (Jiao et al., arXiv 1909.10351, have states behind a layer norm: about 1).
    """
    if s.ndim != 3 or s.shape != t.shape:
        raise UserError(f"s and t must be states (N, L, d) of one shape, got {tuple(s.shape)} and {tuple(t.shape)}")
    check_mask(mask, s.shape[:2])
    return mean_of(hidden_rows(*(positions(x, mask) for x in (s, t)), relative=relative))


def hidden_rows(s: Tensor, t: Tensor, *, relative: bool) -> Tensor:
    """The mean squared difference of each row, (R, …) → (R,), in the mean square of the teacher's row if `relative`."""
    s, t = widened(s, t)
    squares = (s - t).square().flatten(1).mean(1)
    return squares / t.square().flatten(1).mean(1).clamp_min(SMALLEST) if relative else squares


def check_mask(mask: Tensor | None, shape: tuple[int, ...]) -> None:
    """Refuse a mask that is not bool, or not of this shape."""
    if mask is not None and (mask.dtype != torch.bool or mask.shape != shape):
        raise UserError(f"mask must be bool {tuple(shape)}, got {mask.dtype} {tuple(mask.shape)}")


def positions(values: Tensor, mask: Tensor | None) -> Tensor:
    """Values (N, L, …) of the positions that a mask keeps, (K, …); chosen first: the others may hold anything."""
    return values.flatten(0, 1) if mask is None else values[mask]


def mean_of(values: Tensor) -> Tensor:
    """The mean of all values, 0 of none."""
    return values.sum() / max(values.numel(), 1)


class Hidden(Term):
    """The sum of `hidden_mse` over the pairs of stages; through a layer W · s where widths differ.

    Of a text a row is a position that has a label, of an image all places of its map. Models that normalise before each
    layer, as Llamas do, have states of any size: `relative` makes them comparable with the other terms.
    """

    needs = ("student.stages", "teacher.stages", "batch.labels")
    rowwise = True
    soft_labels = True  # of labels it reads only which positions have none

    weight: Scheduled = 0.5
    relative: bool = False

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Pair the stages, each with a connector; refuse maps of unequal sizes."""
        self.pairs = match_stages(student, teacher)
        self.connectors = nn.ModuleList()
        for i, j in self.pairs:
            own, other = student.stages[i], teacher.stages[j]
            if own.size != other.size:
                raise UserError(f"compares place by place, and {own} and {other} differ in size; choose strategy=hint")
            wide = (own.channels, other.channels)
            self.connectors.append(nn.Identity() if wide[0] == wide[1] else nn.Linear(*wide, bias=False))

    def feature_rows(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The sum over the pairs."""
        text = batch.labels.ndim == 2 and not batch.labels.is_floating_point()
        losses = []
        for connector, (i, j) in zip(self.connectors, self.pairs, strict=True):
            s, t = (x.flatten(2).transpose(1, 2) for x in (student.stages[i], teacher.stages[j]))
            if text:
                s, t = (positions(x, batch.labels != IGNORED) for x in (s, t))
            losses.append(hidden_rows(connector(s), t, relative=self.relative))
        return torch.stack(losses).sum(0)
