"""What the losses on logits share: precision, the mean over rows, checks, mixtures, the classes other than one."""

import math
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Term

LEAST = -1e30  # of a log-probability that is taken on: 0 times it is 0, where 0 times −∞ is no number


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32 or wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def widened(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype of `s`, but in float32 at least; no gradient reaches `t`."""
    s = at_least_float32(s)
    return s, t.detach().to(s.dtype)


def log_softened(s: Tensor, t: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """log softmax(s / T) and log softmax(t / T), the latter without gradient; finite where a logit is −∞."""
    s, t = widened(s, t)
    log_q, log_p = (F.log_softmax(z / temperature, dim=-1).clamp(min=LEAST) for z in (s, t))
    return log_q, log_p


def log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """log(share · a + (1 − share) · b), for shares from 0 to below 1."""
    # torch.logaddexp says the same, but its second derivative overflows where a and b are far apart.
    return torch.stack([log_a + (math.log(share) if share else LEAST), log_b + math.log1p(-share)]).logsumexp(0)


def mean_of_rows(
    *, positive: tuple[str, ...], below: Mapping[str, float] | None = None, classes: int = 2, equal: bool = True
) -> Callable[[Callable[..., Tensor]], Any]:
    """Make a loss of a function that has one value for each row of its logits `s` and `t` (and labels `y`).

    The loss is the mean of the rows, with its arguments checked: those named in `positive` must be above 0, those in
    `below` less than a number, there must be as many `classes`, in both where they must be `equal`. As `loss.rows` it
    holds the function, for terms.
    """

    def decorate(rows: Callable[..., Tensor]) -> Callable[..., Tensor]:
        parameters = signature(rows)

        @wraps(rows)
        def loss(*args: Any, **kwargs: Any) -> Tensor:
            bound = parameters.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            above_zero = {name: given[name] for name in positive}
            check_logits(given["s"], given["t"], given.get("y"), classes=classes, equal=equal, **above_zero)
            check_below({name: (given[name], limit) for name, limit in (below or {}).items()})
            return rows(*args, **kwargs).mean()

        loss.rows = rows
        return loss

    return decorate


class LogitsTerm(Term):
    """A mean over the rows of both models' logits."""

    needs = ("student.logits", "teacher.logits")
    rowwise = True


class OtherClassesTerm(LogitsTerm):
    """A mean over rows that compares the classes other than the label's, of which there must be two."""

    needs = (*LogitsTerm.needs, "batch.labels")

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Refuse a model of two classes."""
        if student.outputs < 3:
            what = "compares the classes other than the target"
            raise UserError(f"{what}, and {student.name} has only one; choose strategy=kd")


def check_logits(
    s: Tensor, t: Tensor, y: Tensor | None = None, *, classes: int = 2, equal: bool = True, **above_zero: float
) -> None:
    """Refuse logits not of one shape (N, C), too few classes, labels not int64 (N,), and numbers not above 0.

    Where they need not be `equal`, s and t may have different numbers of classes.
    """
    same = s.shape == t.shape if equal else s.ndim == t.ndim and len(s) == len(t)
    if s.ndim != 2 or not same:
        shapes = "(N, C) of one shape" if equal else "(N, C) and (N, D)"
        raise UserError(f"s and t must be logits {shapes}, got {tuple(s.shape)} and {tuple(t.shape)}")
    if s.shape[1] < classes:
        raise UserError(f"s and t must have {classes} classes or more, got {s.shape[1]}")
    if y is not None and y.shape != s.shape[:1]:
        raise UserError(f"y must hold one class number for each of the {len(s)} rows of s, got {tuple(y.shape)}")
    if y is not None and y.dtype != torch.int64:
        raise UserError(f"y must be int64 class numbers, got {y.dtype}; y.long() makes them")
    check_positive(**above_zero)
    if y is not None:
        check_labels(y, s.shape[1])


def check_positive(**numbers: float) -> None:
    """Refuse a number that is not above 0."""
    for name, value in numbers.items():
        if value <= 0:
            raise UserError(f"{name} must be a number above 0, got {value}")


def check_below(numbers: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a number, above 0 as it is, that is not below its limit."""
    for name, (value, limit) in numbers.items():
        if value >= limit:
            raise UserError(f"{name} must be a number above 0 and below {limit:g}, got {value}")


def check_labels(y: Tensor, classes: int) -> None:
    """Refuse class numbers out of range; not on a GPU, where a look at them would make the host wait."""
    if y.is_cuda or not len(y):
        return
    for label in (int(y.min()), int(y.max())):
        if not 0 <= label < classes:
            raise UserError(f"y must hold class numbers from 0 to {classes - 1}, got {label}")


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) of each row, from log-probabilities, with gradient through both: (N, C), (N, C) → (N,)."""
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
