"""NaN and infinite numbers stop a fit, before they reach a checkpoint, and a network that gives them; the cause is named."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError, first_few
from distillab.data.batch import Batch
from distillab.training.term_inputs import wanted_views

STATISTICS = ("running_mean", "running_var")  # buffers that training changes; others, such as a mask, may be infinite
SMALLER = "try a smaller recipe.lr, or recipe.clip=1"
OTHER_TEACHER = "choose other weights with teacher.checkpoint=…, or check teacher.mean, teacher.std, teacher.input_size and teacher.dtype"


def check_losses(module: Any, sums: Mapping[str, Tensor], batch: Batch | None = None) -> None:
    """Raise UserError for a term of a `Distillation` whose sum is not finite, with what made it so in this batch."""
    for name, value in sums.items():
        if name != "loss" and not torch.isfinite(value):
            found = _cause(module, batch) if batch is not None else None
            what, mend = found or ("", f"try a smaller recipe.lr or strategy.{name}.weight, or recipe.clip=1")
            raise UserError(
                f"strategy.{name} became {value.item()} in epoch {module.current_epoch + 1}{what and f': {what}'}; the last "
                f"good checkpoint is kept; {mend}"
            )


def check_gradient(module: Any) -> None:
    """Raise UserError, with the weight's name, where the gradient of a `Distillation` is not finite."""
    gradients = {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}
    if not gradients or torch.nn.utils.get_total_norm(gradients.values()).isfinite():
        return
    if name := next((name for name, gradient in gradients.items() if _is_broken(gradient)), None):
        raise UserError(
            f"the gradient of {name} is not finite in epoch {module.current_epoch + 1}, and no weight was changed by it; the "
            f"last good checkpoint is kept; {SMALLER}"
        )


def check_weights(module: Any) -> None:
    """Raise UserError where the student's weights are not finite: no such checkpoint replaces an earlier one."""
    if name := _broken_weight(module.student):
        raise UserError(
            f"the student's {name} is not finite in epoch {module.current_epoch + 1}; the last good checkpoint is kept; {SMALLER}"
        )


def check_rows(name: str, what: str, values: Tensor, split: str, mend: str) -> None:
    """Raise UserError where a network's rows (N, …) of a split are not finite; `what`: such as `features of`, for people."""
    if broken := int((~values.isfinite().flatten(1).all(1)).sum()):
        many = f"{broken:,} of {len(values):,} samples ({split})"
        raise UserError(f"{name} gives NaN or infinite numbers as {what} {many}; {mend}")


@torch.no_grad()
def _cause(module: Any, batch: Batch) -> tuple[str, str] | None:
    """The first thing that is not finite, in the order in which numbers flow, and how to mend it; None: the term itself."""
    for view in batch.inputs:
        if found := _broken(view, batch):
            return f"{found} not finite", "mend these samples of the data, or leave them out"
    if name := _broken_weight(module.student):
        return f"the student's {name} is not finite", SMALLER
    for role, view in _outputs(module, batch):
        if found := _broken(view, batch):
            mend = "name other weights with teacher.checkpoint=…" if role == "teacher" else SMALLER
            return f"the {role}'s {found} not finite", mend
    return None


def _outputs(module: Any, batch: Batch) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What the networks make of each view of a batch, once more."""
    terms = {name: module.strategy.terms[name] for name in module.phase.terms}
    batch = replace(batch, inputs=wanted_views(batch, terms, module.task))
    fixed = module.teacher is not None and module.teacher.frozen
    if fixed and module.trainer.world_size == 1:  # shared out, it would wait for other processes
        for view in module.teacher(module.for_teacher(batch)):
            yield "teacher", vars(view)
    for view in batch.inputs:
        yield "student", vars(module.extractors[0](**view))


def _broken(values: Mapping[str, Any], batch: Batch) -> str | None:
    """The first value that is not finite, and its samples by their index in the data."""
    for name, value in values.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if not _is_broken(one):
                continue
            if len(one) != len(batch.index):
                return f"{name} are"
            rows = (~one.isfinite().reshape(len(one), -1).all(1)).nonzero().flatten()
            known = bool((batch.index >= 0).all())
            which = first_few([*map(str, (batch.index[rows] if known else rows).tolist())])
            return f"{name} of {'samples' if known else 'rows'} {which}{'' if known else ' of a batch'} are"
    return None


def _broken_weight(network: nn.Module) -> str | None:
    statistics = ((name, value) for name, value in network.named_buffers() if name.endswith(STATISTICS))
    return next((name for name, value in [*network.named_parameters(), *statistics] if _is_broken(value)), None)


def _is_broken(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
