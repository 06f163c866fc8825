"""Batches whose text the student writes itself, so that it learns where it goes (GKD, arXiv 2306.13649)."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.data.batch import AS_STORED, IGNORED, Batch, Writing
from distillab.data.seeded import Stream, uniform
from distillab.data.text.blocks import PADDING
from distillab.models.causal_lm import CausalLM
from distillab.models.model import Model
from distillab.models.writing import write

if TYPE_CHECKING:
    from distillab.training.module import Distillation

TEMPERATURE = 0.9  # at which the student writes


def check_writing(writing: Writing | None, student: Model, scheme: str) -> None:
    """Raise UserError where the student cannot write, or the scheme has nothing to say of what it writes."""
    if writing is None:
        return
    if not isinstance(student, CausalLM) or not student.hugging:
        raise UserError(
            f"data.on_policy: {student.info.name} keeps no keys and values to write with; choose a model of transformers, or "
            f"data.on_policy=0"
        )
    why = {"mutual": "has several students to write", "self": "smooths labels, which written text does not have"}
    if scheme in why:
        raise UserError(f"data.on_policy: scheme={scheme} {why[scheme]}; data.on_policy=0, or scheme=offline")


def on_policy(module: "Distillation", batch: Batch, number: int) -> Batch:
    """The batch of an epoch with this number, or what the student writes in its place.

    Which of them are written is a function of (seed, epoch, number), what is written one of (seed, epoch, block, position)
    and the student's weights. The rows of a step are still counted by its text, so that every row weighs the same in any
    batch; written tokens are marked in `targets["written"]`, as no loss on labels counts them. The view number is
    `AS_STORED`: nothing that the cache of teacher outputs holds fits them.
    """
    writing = module.writing
    if writing is None or not chosen(writing.share, module.seed, module.current_epoch, number):
        return batch
    with module.writing_timer():
        inputs, targets = _written(module, batch, writing)
    rows = batch.rows if batch.step_rows is None else batch.step_rows
    return replace(batch, inputs=[inputs], targets=targets, view_number=AS_STORED, step_rows=rows)


def chosen(share: float, seed: int, epoch: int, number: int) -> bool:
    """Whether the student writes a batch."""
    return bool(uniform(seed, epoch, torch.tensor([number]), Stream.WRITES) < share)


def starts(labels: Tensor, prompt: int) -> Tensor:
    """Where the student begins in each block (N,), of labels (N, L): at the first learned token behind the prompt.

    So it writes no question of a conversation, and no token behind the end of a text. L where there is none.
    """
    learned = labels[:, prompt - 1 : -1] != IGNORED  # position t has the label of token t + 1
    first = learned.long().argmax(1) + prompt
    return torch.where(learned.any(1), first, labels.shape[1])


def _written(module: "Distillation", batch: Batch, writing: Writing) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and targets of a batch in which the student goes on behind each prompt, up to an end of its text."""
    ids, documents = batch.inputs[0]["input_ids"], batch.inputs[0]["documents"]
    length = ids.shape[1]
    place = torch.arange(length, device=ids.device)
    start = starts(batch.labels, writing.prompt)
    numbers = (batch.index[:, None] * length + place).flatten()
    draws = uniform(module.seed, module.current_epoch, numbers, Stream.OWN).view_as(ids)
    ends = torch.tensor(writing.ends, device=ids.device)
    own = write(module.student, ids, documents, start=start, draws=draws, ends=ends, temperature=TEMPERATURE)
    new = place >= start[:, None]
    stopped = new & torch.isin(own, ends)
    over = new & (stopped.long().cumsum(1) - stopped.long() > 0)  # behind the first end
    before = documents.gather(1, (start - 1)[:, None])
    documents = torch.where(new, torch.where(over, PADDING, before), documents)
    follows = torch.cat([new[:, 1:], torch.zeros_like(new[:, :1])], 1)  # the label of a position is a written token
    following = torch.cat([own[:, 1:], torch.zeros_like(own[:, :1])], 1)
    ignored = torch.cat([over[:, 1:], new[:, -1:]], 1)
    labels = torch.where(follows, following, batch.labels).masked_fill(ignored, IGNORED)
    sizes = torch.where(follows | ignored, 0, batch.targets["sizes"])
    inputs = {"input_ids": own, "documents": documents}
    return inputs, {"labels": labels, "sizes": sizes, "written": follows & ~ignored}
