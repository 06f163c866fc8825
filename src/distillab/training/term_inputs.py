"""What each term is handed, and which parameters a phase reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.core.gather import gather
from distillab.data.batch import Batch
from distillab.data.labels import pseudo_label
from distillab.models.trace import evaluation_mode
from distillab.strategies.base import Outputs, Term
from distillab.strategies.strategy import Phase

if TYPE_CHECKING:
    from distillab.training.module import Distillation


def reachable_parameters(module: Distillation, phase: Phase, trainable: Sequence[nn.Parameter]) -> set[nn.Parameter]:
    """The trainable parameters that a phase trains and its loss depends on (DDP waits for ever for any other)."""
    device = next(module.student.net.parameters()).device
    images = torch.rand(2, *module.student.input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(2, device=device) % module.student.info.outputs
    batch = Batch([images] * module.strategy.num_views, labels, torch.arange(2, device=device))
    for parameter in trainable:
        parameter.requires_grad_(True)
    with evaluation_mode(module), torch.enable_grad():
        loss = sum(module.losses(batch, phase.terms).values())
    gradients = torch.autograd.grad(loss, trainable, allow_unused=True)
    students = set(module.student.parameters())
    allowed = {"both": (True, True), "student": (True, False), "connectors": (False, True)}[phase.train]
    return {
        parameter
        for parameter, gradient in zip(trainable, gradients, strict=True)
        if gradient is not None and allowed[0 if parameter in students else 1]
    }


def shared_parameters(module: Distillation, phase: Phase, trainable: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters of a phase that its task terms and its distil terms reach."""
    kinds = {
        kind: tuple(n for n in phase.terms if module.strategy.terms[n].kind == kind) for kind in ("task", "distil")
    }
    if not all(kinds.values()):
        return []
    task, distil = (reachable_parameters(module, replace(phase, terms=names), trainable) for names in kinds.values())
    return [parameter for parameter in trainable if parameter in task & distil]


def answer_labels(module: Distillation) -> None:
    """Let the teacher stand in for the training labels that the data hide.

    Raises:
        UserError: there is no teacher.
    """
    module.answers = getattr(module.trainer.datamodule, "hides_labels", False)
    if not module.answers:
        return
    if module.teacher is None:
        raise UserError("labels are unknown, and no teacher answers for them: data.labels=all data.labelled=1.0")
    needs = module.strategy.needs("teacher")
    if "logits" not in needs:
        if extractor := getattr(module.teacher, "extractor", None):
            extractor.remove()
        module.teacher.request(needs | {"logits"})


def show_data(module: Distillation) -> None:
    """Let the terms that ask for it look at the training data.

    Raises:
        UserError: a term asks, and the data come from a plain loader.
    """
    asking = {name: t for name, t in module.strategy.terms.items() if type(t).prepare is not Term.prepare}
    if not asking:
        return
    data = module.trainer.datamodule
    if data is None:
        raise UserError(
            f"strategy.{next(iter(asking))} must know each sample's index and see the training images beforehand: "
            f"fit with a distillab data module"
        )
    device = module.trainer.strategy.root_device
    module.to(device)

    def seen() -> Iterator[tuple[SimpleNamespace, Batch]]:
        for batch in data.evaluation_dataloader("train"):
            batch = data.on_after_batch_transfer(module.trainer.strategy.batch_to_device(batch, device))
            images = batch.views[0].contiguous(memory_format=module.layout)
            (outputs,) = module.teacher.outputs([images], None if module.answers else batch.labels)
            if module.answers:
                batch = replace(batch, labels=pseudo_label(batch.labels, outputs.logits))
            yield outputs, batch

    def teacher(term: Term) -> Iterator[tuple[SimpleNamespace, Batch]]:
        return ((only(term, "teacher", outputs), batch) for outputs, batch in seen())

    labels = data.training_labels
    if module.answers:
        labels = torch.cat([gather(batch.labels) for _, batch in seen()]).cpu()
    for term in asking.values():
        term.prepare(labels, lambda term=term: teacher(term))


def wanted_views(batch: Batch, terms: Mapping[str, Term], layout: torch.memory_format) -> list[Tensor]:
    """As many views of a batch as the most demanding term reads.

    Raises:
        UserError: the batch has fewer.
    """
    wanted = max(term.num_views for term in terms.values())
    if len(batch.views) < wanted:
        demanding = next(name for name, term in terms.items() if term.num_views == wanted)
        raise UserError(
            f"strategy.{demanding} learns from {wanted} views of each sample, and the data gives {len(batch.views)}; fit "
            f"with a distillab data module, configure(…, views={wanted}), or choose a method of one view, e.g. strategy=kd"
        )
    return [images.contiguous(memory_format=layout) for images in batch.views[:wanted]]


def call(term: Term, student: list, teacher: list, batch: SimpleNamespace) -> Tensor:
    """Run a term on exactly what it declared, in float32 at least."""

    return term(
        Outputs([only(term, "student", view) for view in student[: term.num_views]]),
        Outputs([only(term, "teacher", view) for view in teacher[: term.num_views]]),
        only(term, "batch", batch),
    )


def only(term: Term, owner: str, source: Any) -> SimpleNamespace:
    """What a term declared to read of `owner` (student, teacher or batch), and nothing else."""
    names = [need.removeprefix(f"{owner}.") for need in term.needs if need.startswith(f"{owner}.")]
    return SimpleNamespace(**{name: _handed(getattr(source, name), term.global_batch) for name in names})


def _handed(value: Any, everywhere: bool) -> Any:
    """Half-precision tensors as float32, and those of all devices where a term compares samples; also in a list."""
    if isinstance(value, list):
        return [_handed(v, everywhere) for v in value]
    if not isinstance(value, Tensor):
        return value
    if value.dtype in (torch.float16, torch.bfloat16):
        value = value.float()
    return gather(value) if everywhere else value
