"""The inputs of each term in a step, and its loss."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distillab.core.errors import UserError
from distillab.core.gather import gather, mean_number
from distillab.data.batch import ALIGNMENTS, Batch, Inputs
from distillab.models.logit_rows import LogitRows, SparseLogits, dense, without_half
from distillab.strategies.base import Fields, Outputs, Term
from distillab.tasks.base import Task

if TYPE_CHECKING:
    from distillab.training.module import Distillation

Rows = Tensor | LogitRows
CHUNK = 2**22  # logits per call of the terms; more rows are split and recomputed in the backward pass


@dataclass(frozen=True)
class Paired:
    """The teacher's rows for rows of the student's, where it reads other tokens.

    `places` (R, ways) are rows of all its `rows`, (N · K, D), for each of `ALIGNMENTS`; below 0 where there is none.
    """

    rows: Rows
    places: Tensor

    @classmethod
    def of(cls, logits: Rows, pairs: Tensor, labels: Tensor, task: Task) -> Self:
        """Of logits (N, K, D), pairs (N, L, ways) and labels (N, L)."""
        first = logits.shape[1] * torch.arange(len(pairs), device=pairs.device)[:, None, None]
        everywhere = torch.ones(logits.shape[:2], dtype=torch.bool, device=pairs.device)
        return cls(logits[everywhere], task.rows(torch.where(pairs < 0, pairs, pairs + first), labels)[0])

    @property
    def shape(self) -> torch.Size:
        """Of the logits."""
        return torch.Size((len(self.places), self.rows.shape[-1]))

    def __getitem__(self, chosen: slice) -> Self:
        return replace(self, places=self.places[chosen])

    def rows_of(self, term: Term) -> tuple[Tensor, Rows]:
        """Which rows have a partner by a term's alignment, bool (R,), and the partners. UserError for a term without one."""
        if term.alignment is None:
            raise UserError(
                f"{type(term).__name__} compares token with token, and the teacher reads others: strategy=uld"
            )
        places = self.places[:, ALIGNMENTS.index(term.alignment)]
        kept = places >= 0
        return kept, self.rows[places[kept]]


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
    terms: Mapping[str, Term], student: list[Fields], teacher: list[Fields], seen: Fields, *, task: Task
) -> dict[str, Tensor]:
    """The weighted loss of each term, a scalar, from exactly the inputs that it declares, in float32 at least.

    `student` and `teacher` are their outputs per view, `seen` is the batch as `Distillation.seen` gives it. A row-wise
    term's sum is divided by the mean number of rows over the batches of an optimiser step and over all devices, so that
    every row of the step weighs the same.
    """
    averaged = {name: term for name, term in terms.items() if term.rowwise and type(term).forward is Term.forward}
    of_logits = {name: term for name, term in averaged.items() if not term.of_features}
    if averaged:
        labels = task.rows(seen.labels, seen.labels)[1]
        count = max(len(labels) if seen.batch_rows is None else seen.batch_rows, 1e-9)
    if of_logits:
        logits = task.rows(student[0].logits, seen.labels)[0]
        # Those that stand in for labels, or that another kind of term reads, are no business of these terms.
        taught = teacher[0].logits if any(term.reads_logits for term in of_logits.values()) else None
        pairs = getattr(seen, "pairs", None)
        if taught is not None:
            taught = task.rows(taught, seen.labels)[0] if pairs is None else Paired.of(taught, pairs, seen.labels, task)
        written = _written(seen, student[0].logits.shape[:-1], task)
        sums = sums_of_rows(of_logits, logits, taught, labels, written=written)
    losses = {}
    for name, term in terms.items():
        if name in of_logits and isinstance(taught, Paired) and term.alignment:
            divisor = mean_number(seen.batch_pairs[ALIGNMENTS.index(term.alignment)].clamp(min=1e-9), labels.device)
            losses[name] = term.weight * (sums[name] / divisor)
            continue
        if name in of_logits:
            loss = sums[name]
        else:
            outputs = [
                Outputs([only(term, owner, view) for view in views[: term.num_views]])
                for owner, views in (("student", student), ("teacher", teacher))
            ]
            read = (*outputs, only(term, "batch", seen))
            loss = term.feature_rows(*read).sum() if name in averaged else term(*read)
        if name in averaged:
            weights = term.row_weights(labels if seen.step_labels is None else seen.step_labels)
            total = count if weights is None else count * (weights.sum() / max(len(weights), 1)).clamp(min=1e-9)
            loss = loss / mean_number(total, labels.device)  # no row: 0 / 1e-9 is 0
        losses[name] = term.weight * loss
    return losses


def _written(seen: Fields, shape: tuple[int, ...], task: Task) -> Tensor | None:
    """Which rows' text the student wrote, (R,), of a batch that says it of its samples (N,) or positions; else None."""
    written = getattr(seen, "written", None)
    if written is None:
        return None
    everywhere = written.reshape(*written.shape, *[1] * (len(shape) - written.ndim)).expand(shape)
    return task.rows(everywhere, seen.labels)[0]


def sums_of_rows(
    terms: Mapping[str, Term],
    student: Rows,
    teacher: "Rows | Paired | None",
    labels: Tensor,
    *,
    written: Tensor | None = None,
) -> dict[str, Tensor]:
    """The sum of each row-wise term, a scalar, over logits (R, C) and labels (R,) or (R, C), in chunks of rows.

    `written`, bool (R,), tells which rows' text the student wrote, which terms that read labels leave out; None where the
    batch does not say.
    All terms share a chunk: rows that are projected from hidden states are projected once for all of them.
    """

    def part(first: int, end: int) -> list[Tensor]:
        own = dense(student[first:end])
        taught = None if teacher is None else teacher[first:end]
        by_student = None if written is None else written[first:end]
        return [_sum(term, own, taught, labels[first:end], written=by_student) for term in terms.values()]

    widest = max(student.shape[-1], 0 if teacher is None else teacher.shape[-1])
    at_once, rows = max(1, CHUNK // widest), len(labels)
    if rows <= at_once:
        return dict(zip(terms, part(0, rows), strict=True))
    cuts = ((first, min(first + at_once, rows)) for first in range(0, rows, at_once))
    parts = [torch.stack(checkpoint(part, *cut, use_reentrant=False)) for cut in cuts]
    return dict(zip(terms, torch.stack(parts).sum(0), strict=True))


def _sum(
    term: Term, student: Tensor, teacher: "Rows | Paired | None", labels: Tensor, *, written: Tensor | None
) -> Tensor:
    """The sum of a row-wise term over rows that are all in memory, but for what a cache has left out of the teacher's."""
    if "teacher.logits" not in term.needs:
        teacher = None
    elif isinstance(teacher, Paired):
        kept, teacher = teacher.rows_of(term)
        student, labels = student[kept], labels[kept]
    elif isinstance(teacher, SparseLogits) and term.pools:
        student, teacher = teacher.paired(student, getattr(term, "temperature", 1.0))
    further = [written] if "batch.written" in term.needs else []
    labelled = "batch.labels" in term.needs
    rows = term.rows(student, dense(teacher), labels if labelled else None, *further)
    return rows[~written].sum() if labelled and written is not None and not further else rows.sum()


def prepare_terms(module: "Distillation") -> None:
    """Give the training data to the terms that prepare; raises UserError for the data of a plain loader."""
    preparing = {name: t for name, t in module.strategy.terms.items() if t.prepares}
    if not preparing:
        return
    data, device = module.trainer.datamodule, module.trainer.strategy.root_device
    if not hasattr(data, "training_labels"):
        raise UserError(
            f"strategy.{next(iter(preparing))} must know each sample's index and see the training samples beforehand: "
            f"fit with a distillab data module"
        )
    module.to(device)

    def shown() -> Iterator[tuple[Fields, Fields]]:
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


def only(term: Term, owner: str, source: Any) -> Fields:
    """The inputs that a term declares of `owner` (student, teacher or batch)."""
    names = [need.removeprefix(f"{owner}.") for need in term.needs if need.startswith(f"{owner}.")]
    inputs = {name: mapped(_whole(getattr(source, name)), without_half) for name in names}
    if term.global_batch:  # it compares samples, also those of other devices
        inputs = {name: mapped(value, gather) for name, value in inputs.items()}
    return Fields(**inputs)


def _whole(value: Any) -> Any:
    return dense(value) if isinstance(value, LogitRows) else value


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor changed by a function, or a list with every tensor in it changed; anything else as it is."""
    if isinstance(value, list):
        return [mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, Tensor) else value
