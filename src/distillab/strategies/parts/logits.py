"""What the losses on logits share: their checks, and the classes other than one, in log space."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo


def check(s: Tensor, t: Tensor, y: Tensor | None = None, classes: int = 2, **above_zero: float) -> None:
    """Refuse arguments that do not go together.

    Args:
        s, t: logits of one shape (N, C).
        y: labels (N,), int64.
        classes: the fewest that make sense.
        above_zero: numbers that must be above 0, by the name of their argument.

    Raises:
        UserError: names the argument.
    """
    if s.ndim != 2 or s.shape != t.shape:
        raise UserError(f"s and t must be logits (N, C) of one shape, got {tuple(s.shape)} and {tuple(t.shape)}")
    if s.shape[1] < classes:
        raise UserError(f"s and t must have {classes} classes or more, got {s.shape[1]}")
    if y is not None and y.shape != s.shape[:1]:
        raise UserError(f"y must hold one class number for each of the {len(s)} rows of s, got {tuple(y.shape)}")
    if y is not None and y.dtype != torch.int64:
        raise UserError(f"y must be int64 class numbers, got {y.dtype}; y.long() makes them")
    for name, value in above_zero.items():
        if value <= 0:
            raise UserError(f"{name} must be a number above 0, got {value}")
    if y is not None:
        check_labels(y, s.shape[1])


def check_labels(y: Tensor, classes: int) -> None:
    """Refuse labels that no class has; on a GPU, where to look is to wait, an index out of bounds ends the run."""
    if y.is_cuda or not len(y):
        return
    for label in (int(y.min()), int(y.max())):
        if not 0 <= label < classes:
            raise UserError(f"y must hold class numbers from 0 to {classes - 1}, got {label}")


def check_classes(info: FeatureInfo) -> None:
    """Refuse two classes, of which only one is not the target: there is nothing to compare it with."""
    if info.outputs < 3:
        raise UserError(f"compares the classes other than the target, and {info.name} has only one; choose strategy=kd")


def widened(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 or wider; no gradient reaches `t`."""
    wide = torch.promote_types(s.dtype, torch.float32)
    return s.to(wide), t.detach().to(wide)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) of each row, from log-probabilities: (N, C), (N, C) → (N,)."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def others(z: Tensor, y: Tensor) -> Tensor:
    """The logits of all classes but `y`: (N, C), (N,) → (N, C − 1)."""
    place = torch.arange(z.shape[-1] - 1, device=z.device)
    return z.gather(-1, place + (place >= y[:, None]))


def log_pair(z: Tensor, y: Tensor) -> Tensor:
    """Log-probabilities of class `y` and of the rest: (N, C), (N,) → (N, 2)."""
    # A sum of softmax probabilities may be 0 and its logarithm infinite; a difference of logits is neither.
    margin = z.gather(-1, y[:, None]).squeeze(-1) - others(z, y).logsumexp(-1)
    return F.logsigmoid(torch.stack([margin, -margin], -1))
