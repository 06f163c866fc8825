"""The inputs of each term in a step, and its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distillab.core.errors import UserError
from distillab.core.gather import gather, mean_number
from distillab.data.batch import Batch, Inputs
from distillab.strategies.base import Outputs, Term
from distillab.tasks.base import Task

if TYPE_CHECKING:
    from distillab.training.module import Distillation

CHUNK = 2**26  # logits per call of a term; more rows are split and recomputed in the backward pass


@dataclass(frozen=True)
class Seen:
    """The parts of a batch that terms may read.

    Attributes:
        labels: (N, …), all known.
        index: (N,), each sample's place in its split.
        views: the model's inputs, per view.
        batch_rows: mean number of labels of the batches of an optimiser step; None counts each batch alone.
    """

    labels: Tensor
    index: Tensor
    views: list[Inputs] = field(default_factory=list)
    batch_rows: float | None = None


@dataclass(frozen=True)
class Rows:
    """A batch without ignored positions, for the row-wise terms.

    Attributes:
        student, teacher: logits (R, C) in float32 at least; None if no term reads the teacher's.
        labels: (R,), or (R, C) of mixed samples.
        denominator: divides the sum over these rows: the mean number of rows over the batches of an optimiser step and
            over all devices, so that every row of the step weighs the same.
    """

    student: Tensor
    teacher: Tensor | None
    labels: Tensor
    denominator: float | Tensor

    @classmethod
    def of(cls, student: SimpleNamespace, teacher: SimpleNamespace, seen: Seen, task: Task) -> Rows | None:
        """From both outputs of the first view; None if no term reads the student's logits."""
        if not hasattr(student, "logits"):
            return None
        logits, labels = task.rows(_at_least_float32(student.logits), seen.labels)
        taught = task.rows(_at_least_float32(teacher.logits), seen.labels)[0] if hasattr(teacher, "logits") else None
        rows = len(logits) if seen.batch_rows is None else seen.batch_rows
        return cls(logits, taught, labels, mean_number(max(rows, 1e-9), logits.device))  # no row: 0 / 1e-9 is 0


def wanted_views(batch: Batch, terms: Mapping[str, Term], task: Task) -> list[Inputs]:
    """The number of views of a batch that the terms read; raises UserError if it has fewer."""
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
    """The weighted loss of each term, a scalar, from exactly the inputs that it declares, in float32 at least.

    Args:
        terms: by name.
        student, teacher: outputs per view.
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
    """The sum of a row-wise term, a scalar, in chunks of rows."""
    teacher = rows.teacher if "teacher.logits" in term.needs else None
    labels = rows.labels if "batch.labels" in term.needs else None
    at_once = max(1, CHUNK // rows.student.shape[-1])
    if len(rows.student) <= at_once:
        return term.rows(rows.student, teacher, labels).sum()

    def part(first: int) -> Tensor:
        chosen = (None if all_ is None else all_[first : first + at_once] for all_ in (rows.student, teacher, labels))
        return checkpoint(lambda *some: term.rows(*some).sum(), *chosen, use_reentrant=False)

    return torch.stack([part(first) for first in range(0, len(rows.student), at_once)]).sum()


def prepare_terms(module: Distillation) -> None:
    """Give the training data to the terms that prepare; raises UserError for the data of a plain loader."""
    preparing = {name: t for name, t in module.strategy.terms.items() if type(t).prepare is not Term.prepare}
    if not preparing:
        return
    data, device = module.trainer.datamodule, module.trainer.strategy.root_device
    if data is None:
        raise UserError(
            f"strategy.{next(iter(preparing))} must know each sample's index and see the training samples beforehand: "
            f"fit with a distillab data module"
        )
    module.to(device)

    def shown() -> Iterator[tuple[SimpleNamespace, Seen]]:
        for batch in data.evaluation_dataloader("train"):
            batch = data.on_after_batch_transfer(module.trainer.strategy.batch_to_device(batch, device), 0)
            batch = replace(batch, inputs=[module.task.arrange(view) for view in batch.inputs])
            (outputs,) = module.teacher(module.for_teacher(batch))
            yield outputs, module.seen(batch, [outputs])

    labels = data.training_labels
    if module.pseudo_labels:
        labels = torch.cat([gather(seen.labels) for _, seen in shown()]).cpu()
    for term in preparing.values():
        term.prepare(labels, lambda term=term: ((only(term, "teacher", o), seen) for o, seen in shown()))


def only(term: Term, owner: str, source: Any) -> SimpleNamespace:
    """The inputs that a term declares of `owner` (student, teacher or batch)."""
    names = [need.removeprefix(f"{owner}.") for need in term.needs if need.startswith(f"{owner}.")]
    inputs = {name: mapped(getattr(source, name), _at_least_float32) for name in names}
    if term.global_batch:  # it compares samples, also those of other devices
        inputs = {name: mapped(value, gather) for name, value in inputs.items()}
    return SimpleNamespace(**inputs)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor changed by a function, or a list with every tensor in it changed; anything else as it is."""
    if isinstance(value, list):
        return [mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, Tensor) else value


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
