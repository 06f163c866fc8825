"""What each term is handed of a step, and the loss it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distillab.core.errors import UserError
from distillab.core.gather import gather, mean_number
from distillab.data.batch import Batch, Inputs
from distillab.strategies.base import Outputs, Term
from distillab.tasks.base import Task

CHUNK = 2**26  # logits that a term sees at once; of more, rows are taken in turns and recomputed in the backward pass


@dataclass(frozen=True)
class Seen:
    """What a batch holds for the terms.

    Attributes:
        labels: (N, …), without gaps.
        index: (N,), each sample's place in its split.
        views: the model's inputs, per view.
        batch_rows: labels of a batch, on average over the optimiser step it is part of; None counts each batch alone.
    """

    labels: Tensor
    index: Tensor
    views: list[Inputs] = field(default_factory=list)
    batch_rows: float | None = None


@dataclass(frozen=True)
class Rows:
    """What a batch holds for the row-wise terms, ignored positions left out.

    Attributes:
        student, teacher: logits (R, C) in float32 at least; None where no term reads the teacher's.
        labels: (R,), or (R, C) of mixed samples.
        denominator: by what the sum over these rows is divided: the rows of a batch on average over the optimiser step
            and over all devices, so that every row of the step weighs the same.
    """

    student: Tensor
    teacher: Tensor | None
    labels: Tensor
    denominator: float | Tensor

    @classmethod
    def of(cls, student: SimpleNamespace, teacher: SimpleNamespace, seen: Seen, task: Task) -> Rows | None:
        """From what both gave for the first view; None where no term reads the student's logits."""
        if not hasattr(student, "logits"):
            return None
        logits, labels = task.rows(_handed(student.logits), seen.labels)
        taught = task.rows(_handed(teacher.logits), seen.labels)[0] if hasattr(teacher, "logits") else None
        rows = len(logits) if seen.batch_rows is None else seen.batch_rows
        return cls(logits, taught, labels, mean_number(max(rows, 1e-9), logits.device))  # no row: 0 / 1e-9 is 0


def wanted_views(batch: Batch, terms: Mapping[str, Term], task: Task) -> list[Inputs]:
    """As many views of a batch as the most demanding term reads.

    Raises:
        UserError: the batch has fewer.
    """
    wanted = max(term.num_views for term in terms.values())
    if len(batch.inputs) < wanted:
        demanding = next(name for name, term in terms.items() if term.num_views == wanted)
        raise UserError(
            f"strategy.{demanding} learns from {wanted} views of each sample, and the data gives {len(batch.inputs)}; fit "
            f"with a distillab data module, configure(…, num_views={wanted}), or choose a method of one view, e.g. "
            f"strategy=kd"
        )
    return [task.arrange(view) for view in batch.inputs[:wanted]]


def term_losses(
    terms: Mapping[str, Term], student: list[SimpleNamespace], teacher: list[SimpleNamespace], seen: Seen, *, task: Task
) -> dict[str, Tensor]:
    """The weighted loss of each term, a scalar: it reads exactly what it declared, in float32 at least.

    Args:
        terms: by name.
        student, teacher: what each gave, per view.
        seen: the batch.
        task: makes rows of logits and labels.
    """
    rowwise = [term for term in terms.values() if _is_rowwise(term)]
    rows = Rows.of(student[0], teacher[0], seen, task) if rowwise else None
    losses = {}
    for name, term in terms.items():
        if _is_rowwise(term):
            losses[name] = term.weight * (sum_of_rows(term, rows) / rows.denominator)
            continue
        outputs = [
            Outputs([only(term, owner, view) for view in views[: term.num_views]])
            for owner, views in (("student", student), ("teacher", teacher))
        ]
        losses[name] = term.weight * term(*outputs, only(term, "batch", seen))
    return losses


def _is_rowwise(term: Term) -> bool:
    return term.rowwise and type(term).forward is Term.forward


def sum_of_rows(term: Term, rows: Rows) -> Tensor:
    """The sum of a row-wise term, a scalar; it is handed what it declared, many rows in turns."""
    teacher = rows.teacher if "teacher.logits" in term.needs else None
    labels = rows.labels if "batch.labels" in term.needs else None
    at_once = max(1, CHUNK // rows.student.shape[-1])
    if len(rows.student) <= at_once:
        return term.rows(rows.student, teacher, labels).sum()

    def part(first: int) -> Tensor:
        chosen = (None if all_ is None else all_[first : first + at_once] for all_ in (rows.student, teacher, labels))
        return checkpoint(lambda *some: term.rows(*some).sum(), *chosen, use_reentrant=False)

    return torch.stack([part(first) for first in range(0, len(rows.student), at_once)]).sum()


def only(term: Term, owner: str, source: Any) -> SimpleNamespace:
    """What a term declared to read of `owner` (student, teacher or batch), and nothing else."""
    names = [need.removeprefix(f"{owner}.") for need in term.needs if need.startswith(f"{owner}.")]
    return SimpleNamespace(**{name: _handed(getattr(source, name), term.global_batch) for name in names})


def _handed(value: Any, everywhere: bool = False) -> Any:
    """Half-precision tensors as float32, and those of all devices where a term compares samples; also in a list."""
    if isinstance(value, list):
        return [_handed(v, everywhere) for v in value]
    if not isinstance(value, Tensor):
        return value
    if value.dtype in (torch.float16, torch.bfloat16):
        value = value.float()
    return gather(value) if everywhere else value
