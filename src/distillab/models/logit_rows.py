"""Logits that are not all in memory: rows of a large vocabulary, computed where and when they are read."""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from distillab.core.errors import UserError

NOTHING = -1e9  # the log-probability of what cannot be; -inf times 0 would be NaN


class LogitRows:
    """Logits (…, outputs) that `dense` computes; they are chosen and cut like a tensor along their first dimensions."""

    shape: torch.Size  # of the logits

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Tensor | slice) -> Self:
        raise NotImplementedError

    def dense(self) -> Tensor:
        """The logits themselves, in float32 at least."""
        raise NotImplementedError


class ProjectedLogits(LogitRows):
    """Hidden states (…, d) before the head, and the head that makes logits of rows (R, d)."""

    def __init__(self, hidden: Tensor, head: Callable[[Tensor], Tensor], outputs: int) -> None:
        self.hidden, self.head, self.outputs = hidden, head, outputs
        self.shape = torch.Size((*hidden.shape[:-1], outputs))

    def __getitem__(self, chosen: Tensor | slice) -> Self:
        return type(self)(self.hidden[chosen], self.head, self.outputs)

    def dense(self) -> Tensor:
        """The logits of all rows."""
        logits = self.head(self.hidden.reshape(-1, self.hidden.shape[-1]))
        return without_half(logits).reshape(self.shape)


class SparseLogits(LogitRows):
    """What is kept of a teacher's distributions: the log-probabilities of k outputs, and how much the others hold.

    `top` and `place` are (…, k), the log-probabilities at temperature 1 and their outputs; an empty slot has `NOTHING`.
    `tail` (…, T) is for each of the `temperatures` T the logarithm of Σ p^(1/T) over the other outputs. `convention` says
    what a divergence makes of them: `bucket` counts them as one more output of both models; `both` leaves them out of both,
    which are renormalised (the student's others are then free); `renormalise` leaves them out of the teacher alone (which
    is then too sure).
    """

    def __init__(
        self,
        top: Tensor,
        place: Tensor,
        tail: Tensor,
        *,
        temperatures: tuple[float, ...],
        convention: str,
        outputs: int,
    ) -> None:
        self.top, self.place, self.tail = top, place, tail
        self.about = {"temperatures": temperatures, "convention": convention, "outputs": outputs}
        self.shape = torch.Size((*top.shape[:-1], outputs))

    def __getitem__(self, chosen: Tensor | slice) -> Self:
        return type(self)(self.top[chosen], self.place[chosen], self.tail[chosen], **self.about)

    def dense(self) -> Tensor:
        """Logits in which the other outputs share what is left equally."""
        outputs, slots = self.about["outputs"], self.top.shape[-1]
        rest = self._tail(1.0) - math.log(max(outputs - slots, 1))
        whole = rest[..., None].expand(self.shape).clone()
        # Empty slots point to output 0, which may be kept as well: the largest of them stands.
        return whole.scatter_reduce(-1, self.place, self.top, "amax", include_self=False)

    def paired(self, student: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Logits of student and teacher (R, k + 1) over the kept outputs, and the others as one, for this temperature.

        `student` are its logits (R, V). Raises UserError for a temperature at which the others were not kept.
        """
        empty = self.top <= NOTHING / 2
        log_q = (student / temperature).log_softmax(-1)
        own = log_q.gather(-1, self.place).masked_fill(empty, NOTHING)
        if self.about["convention"] == "both":
            return temperature * own, self.top
        # An empty slot points to output 0, which is not kept by it.
        kept = torch.zeros_like(log_q, dtype=torch.bool).scatter_reduce(-1, self.place, ~empty, "amax")
        others = log_q.masked_fill(kept, -torch.inf).logsumexp(-1, keepdim=True).clamp(min=NOTHING)
        tail = self._tail(temperature)[..., None]
        if self.about["convention"] == "renormalise":
            tail = torch.full_like(tail, NOTHING)
        log_p = torch.cat([self.top / temperature, tail], -1).log_softmax(-1)
        return temperature * torch.cat([own, others], -1), temperature * log_p

    def _tail(self, temperature: float) -> Tensor:
        known = self.about["temperatures"]
        if temperature not in known:
            raise UserError(
                f"the teacher cache holds the tails at temperature {', '.join(f'{t:g}' for t in known)}, and the strategy "
                f"asks for {temperature:g}: cache.temperatures=[{temperature:g}], which fills another cache"
            )
        return self.tail[..., known.index(temperature)]


def drawn(logits: Tensor, numbers: Tensor) -> Tensor:
    """Outputs (…, n) of softmax(logits), of logits (…, V), for numbers (…, n) from [0, 1), by the inverse of its sums.

    In double, and scaled by the last sum, which may be a little below 1.
    """
    up_to = logits.double().softmax(-1).cumsum(-1)
    chosen = torch.searchsorted(up_to, numbers.double() * up_to[..., -1:], right=True)
    return chosen.clamp(max=logits.shape[-1] - 1)


def dense(logits: Tensor | LogitRows | None) -> Tensor | None:
    """Logits as one tensor, in float32 at least; None as it is."""
    if isinstance(logits, LogitRows):
        return logits.dense()
    return None if logits is None else without_half(logits)


def without_half(values: Tensor) -> Tensor:
    """Numbers in half precision as float32, any others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
