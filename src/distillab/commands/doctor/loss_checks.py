"""Checks of the losses: how they count tokens, and what the cache leaves of the teacher."""

from dataclasses import replace

import torch
from torch import Tensor

from distillab.commands.doctor.examined import Examined, Verdict, difference, fine, gradient, refused
from distillab.data.batch import IGNORED
from distillab.data.loader import Loader
from distillab.data.text.blocks import PADDING
from distillab.models.logit_rows import SparseLogits, dense
from distillab.strategies.kd import kd_rows
from distillab.teachers.cached import CachedTeacher
from distillab.training.term_inputs import Paired

SAME = 1e-6  # nats; of a model that is run twice
HALF = 1e-3  # the same in half precision
GRADIENT = 1e-5  # relative difference of two gradients
LOSS = 1e-4  # of two losses
NOBODY = -1e4  # the logit of an output that no model predicts
KEPT = 0.01  # of a probability, which a cache in half precision may change


def accumulation(seen: Examined) -> Verdict:
    """The gradient of a step is the same however the step is cut into batches."""
    labels = seen.blocks.labels.clone()
    labels[0, : labels.shape[1] * 3 // 4] = IGNORED  # blocks of one size would hide what the cut does
    blocks = replace(seen.blocks, labels=labels)
    count = len(blocks)
    whole, parts = (
        [seen.placed(batch) for batch in Loader(blocks, size, accumulate=count // size)] for size in (count, count // 2)
    )
    gap = difference(gradient(seen.module, parts, seen.rowwise), gradient(seen.module, whole, seen.rowwise))
    if not gap < GRADIENT:
        return refused(
            f"the gradient changes by {gap:.2g} where a step is cut into two batches: divide sums by the labels of the whole "
            f"step (Batch.step_rows), not each batch by its own"
        )
    return fine(f"the gradient of one batch and of two differ by {gap:.1g}")


def padding(seen: Examined) -> Verdict:
    """The gradient is the same where padding is appended."""
    length = seen.blocks.ids.shape[1]
    short = max(1, length * 3 // 4)
    alone = seen.blocks.cut(short)
    ids = seen.blocks.ids.clone()
    ids[:, short:] = ids.flip(1)[:, short:]  # any tokens
    others = {"labels": IGNORED, "documents": PADDING, "sizes": 0}
    padded = replace(seen.blocks, ids=ids, **{name: getattr(seen.blocks, name).clone() for name in others})
    for name, value in others.items():
        getattr(padded, name)[:, short:] = value
    found = [gradient(seen.module, [seen.batch(one)], seen.rowwise) for one in (padded, alone)]
    gap = difference(*found)
    if not gap < GRADIENT:
        return refused(f"padding changes the gradient by {gap:.2g}: leave out positions whose label is {IGNORED}")
    return fine(f"{length - short} positions of padding change the gradient by {gap:.1g}")


@torch.no_grad()
def denominator(seen: Examined) -> Verdict:
    """A loss is a sum over the vocabulary and a mean over the tokens."""
    module = seen.module
    logits, labels = seen.rows(seen.student, seen.blocks)
    batch, taught = seen.batch(seen.blocks), None
    if module.teacher is not None:
        read, pairs = module.teacher(module.for_teacher(batch))[0].logits, batch.targets.get("pairs")
        if pairs is None:
            taught = module.task.rows(dense(read), batch.labels)[0]
        else:
            taught = Paired.of(read, pairs, batch.labels, module.task)
    losses = module.losses(batch, seen.rowwise)
    for name in seen.rowwise:
        term = module.strategy.terms[name]
        if term.row_weights(labels) is not None:
            continue
        own, theirs = logits, taught if "teacher.logits" in term.needs else None
        if isinstance(theirs, Paired):
            kept, theirs = theirs.rows_of(term)
            own, theirs = logits[kept], dense(theirs)
        rows = _rows(term, own, theirs, labels)
        expected = (term.weight * rows.mean()).item()
        if abs(losses[name].item() - expected) > LOSS * max(abs(expected), 1e-6):
            return refused(
                f"strategy.{name} is {losses[name].item():.4g} and its mean over the tokens {expected:.4g}: divide by the number "
                f"of tokens, and not by that of outputs too"
            )
        if not (term.pools or term.kind == "task"):
            continue  # its loss may depend on the number of outputs
        few = slice(0, 8)
        wide = [None if each is None else _widened(each[few]) for each in (own, theirs)]
        moved = _rows(term, *wide, labels[few]).sum().item()
        if abs(moved - rows[few].sum().item()) > LOSS * max(abs(moved), 1e-6):
            return refused(
                f"strategy.{name} changes by a factor of {moved / rows[few].sum().item():.3g} where outputs are added that nobody "
                f"predicts: sum over the vocabulary instead of a mean"
            )
    return fine(f"{', '.join(seen.rowwise)}: a mean over {len(labels)} tokens of a sum over the vocabulary")


def _rows(term: torch.nn.Module, logits: Tensor, taught: Tensor | None, labels: Tensor) -> Tensor:
    further = [None] if "batch.written" in term.needs else []
    return term.rows(logits, taught, labels if "batch.labels" in term.needs else None, *further)


def _widened(logits: Tensor) -> Tensor:
    return torch.cat([logits, torch.full_like(logits, NOBODY)], -1)


@torch.no_grad()
def teacher_itself(seen: Examined) -> Verdict:
    """The teacher as the strategy sees it is the teacher, block by block."""
    seen = seen.read_by("teacher")
    (read,) = seen.module.teacher(seen.batch(seen.blocks))
    whole, divergences = dense(read.logits), []
    for place in range(len(seen.blocks)):
        alone = seen.batch(seen.blocks.chosen(torch.tensor([place])))
        own = dense(seen.teacher.outputs(**alone.inputs[0]))
        divergences.append(kd_rows(own[0], whole[place], 1.0))
    found, most = torch.cat(divergences).mean().item(), SAME if seen.teacher.held_in in (None, torch.float32) else HALF
    if not found < most:
        return refused(
            f"KL of the teacher with itself is {found:.2g}, above {most:g}: is it in eval mode, in one dtype?"
        )
    return fine(f"KL {abs(found):.1g}")


@torch.no_grad()
def temperature(seen: Examined) -> Verdict:
    """The cache can give the teacher's distribution at the temperature of every term."""
    if not isinstance(seen.module.teacher, CachedTeacher):
        return fine("the teacher runs live")
    seen, layout = seen.read_by("teacher"), seen.module.teacher.cache.layout
    (read,) = seen.module.teacher(seen.batch(seen.blocks.chosen(torch.tensor([0]))))
    kept = layout.widen(layout.narrow(read)).logits
    if not isinstance(kept, SparseLogits):
        return fine("the cache holds all logits")
    live, used, epochs = dense(read.logits), [], seen.data.epochs(seen.config.recipe)
    for name, term in seen.module.strategy.terms.items():
        if not term.pools or "teacher.logits" not in term.needs:
            continue
        for epoch in range(epochs if term.schedules else 1):
            if term.schedules:
                term.set_epoch(epoch, epochs)
            degree = getattr(term, "temperature", 1.0)
            used.append(degree)
            gap = _changed(kept, live, degree)
            if not gap < KEPT and layout.draws is None:  # random tokens are right on average alone
                return refused(
                    f"strategy.{name} asks for temperature {degree:g}, at which the cache changes probabilities by {gap:.2g}: "
                    f"cache.temperatures=[{degree:g}], which fills another cache"
                )
        term.set_epoch(0, epochs)
    return fine(f"the cache holds {', '.join(f'{one:g}' for one in sorted(set(used))) or 'none that is asked for'}")


def _changed(kept: SparseLogits, live: Tensor, degree: float) -> float:
    """The largest change of a probability at a temperature; UserError where the cache does not hold it."""
    convention = kept.about["convention"]
    _, pooled = kept.paired(live, degree)
    found = (pooled / degree).softmax(-1)
    p = (live / degree).softmax(-1).gather(-1, kept.place)
    if convention != "bucket":  # they are renormalised on purpose
        p = p / p.sum(-1, keepdim=True)
    return (found[..., : p.shape[-1]] - p).abs().max().item()


LOSS_CHECKS = {"padding": padding, "accumulation": accumulation, "denominator": denominator}
SOURCE_CHECKS = {"teacher and itself": teacher_itself, "temperature": temperature}
