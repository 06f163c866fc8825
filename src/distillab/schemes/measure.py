"""Measures trained networks on the data and stores their scores and predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillab.core.files import replacing, writable
from distillab.core.output import rank_zero_print, rank_zero_warn
from distillab.core.own_code import name_of, own_code
from distillab.core.result_parts import Training
from distillab.data.module import DataModule
from distillab.evaluation.chance import hardly_better
from distillab.models.feature_info import FeatureInfo
from distillab.models.fingerprint import preprocessing, structure, weights_hash
from distillab.models.model import Model
from distillab.schemes.record import Record
from distillab.schemes.setting import Setting
from distillab.schemes.store import PLACE
from distillab.training.finite import OTHER_TEACHER, SMALLER, check_rows

TRAINED = "trained here"  # how the source of a network begins that came without weights


def scores(
    model: Model,
    data: DataModule,
    setting: Setting,
    test: tuple[Tensor, Tensor] | None = None,
    *,
    mend: str = SMALLER,
) -> dict[str, float]:
    """The primary figure on validation, if there is such a split, and on test; `test`: the known predictions there.

    Raises UserError, which says how to `mend` it, where the network answers with NaN or infinite numbers.
    """
    found = {}
    if data.sizes["validation"]:
        found["validation"] = setting.task.score(*_predict(model, data, "validation", setting, mend))
    return found | {"test": setting.task.score(*(test or _predict(model, data, "test", setting, mend)))}


def predictions(
    model: Model, data: DataModule, setting: Setting, folder: str | None = None, *, mend: str = SMALLER
) -> tuple[Tensor, Tensor]:
    """Rows of logits (R, classes) and labels (R,) on test, computed once per folder of the store (None: every time).

    Raises UserError where the store cannot be written, and as `scores`.
    """
    if folder is None:
        return _predict(model, data, "test", setting, mend)
    file = Path(folder) / "test.npz"
    if not file.is_file():
        logits, labels = _predict(model, data, "test", setting, mend)
        with writable(file.parent, PLACE), replacing(file) as temporary, temporary.open("wb") as opened:
            np.savez(opened, logits=logits.numpy(), labels=labels.numpy())
    with np.load(file) as kept:
        logits, labels = torch.from_numpy(kept["logits"]), torch.from_numpy(kept["labels"])
    check_rows(model.info.name, "answers to", logits, "test", mend)  # an earlier version may have kept any
    return logits, labels


def _predict(model: Model, data: DataModule, split: str, setting: Setting, mend: str) -> tuple[Tensor, Tensor]:
    """Rows of a split; a network too large for the device predicts on the CPU."""
    try:
        rows = setting.task.predictions(model, data, split, setting.device)
    except torch.OutOfMemoryError:
        rows = None  # after this block the error no longer holds the tensors
    if rows is None:
        rank_zero_print("a network is too large for one device: it is evaluated on the CPU, which takes longer")
        model.cpu()
        torch.cuda.empty_cache()
        rows = setting.task.predictions(model, data, split, "cpu")
    check_rows(model.info.name, "answers to", rows[0], split, mend)
    return rows


def measure(model: Model, data: DataModule, setting: Setting, members: Sequence[Model] = ()) -> Record:
    """The scores of a trained network, or of a mixture of `members`, once; near chance also in the best class order.

    Raises UserError where it answers with NaN or infinite numbers.
    """
    networks = members or [model]
    prints = [{"weights": weights_hash(m), "structure": structure(m), "about": preprocessing(m)} for m in networks]
    key = {"networks": prints, "data": data.fingerprint, "mixture": bool(members)}
    if task_code := own_code(name_of(type(setting.task))):
        key["code"] = task_code

    def make(folder: Path) -> dict[str, Any]:
        rows = predictions(model, data, setting, str(folder), mend=OTHER_TEACHER)
        found = scores(model, data, setting, rows, mend=OTHER_TEACHER)
        task, (split, score) = setting.task, next(iter(found.items()))
        chance, other = task.chance(model.info.outputs), None
        if not members and chance is not None and score < 2 * chance:
            other = task.other_order(*_predict(model, data, split, setting, OTHER_TEACHER), data.info.classes, score)
        return Record(scores=found, training=Training(other_order=other)).model_dump()

    folder, kept, reused = setting.store.once("measured", model.info.name, key, make)
    return Record.model_validate(kept).changed(str(folder), reused=reused)


def warn_if_weak(name: str, record: Record, setting: Setting, outputs: int) -> None:
    """Warn if a teacher is hardly better than chance, or has its outputs in another class order."""
    split, value = next(iter(record.scores.items()))
    chance = setting.task.chance(outputs)
    if other := record.training.other_order:
        rank_zero_warn(
            f"your class order differs: teacher {name} is right on {100 * value:.1f} % of {split}, but on "
            f"{100 * other['score']:.1f} % if its outputs mean teacher.classes=[{','.join(other['classes'])}]"
        )
    elif chance is not None and hardly_better(value, chance):
        rank_zero_warn(
            f"teacher {name} is hardly better than chance ({100 * value:.1f} % of {split}, chance {100 * chance:.1f} %); "
            f"{_ways_out(record)}"
        )


def _ways_out(record: Record) -> str:
    """What helps against a teacher at chance: one that was trained here, one with a new head, one as it came."""
    numbers = "teacher.checkpoint, teacher.mean, teacher.std"
    if (record.training.source or "").startswith(TRAINED):
        return "more teacher.recipe.epochs or another teacher.recipe.lr may help"
    if "adapted here" in (record.training.source or "") and not record.head:
        return f"teacher.adapt=head, which fits a head to its features, may help; else check {numbers} and teacher.input_size"
    if record.head:
        return f"its features tell little of these classes: check {numbers} and teacher.input_size, or choose another teacher=…"
    return (
        f"if its outputs are features and no classes, teacher.adapt=head fits a head to them; else check {numbers} "
        f"and teacher.classes"
    )


def warn_if_below(
    teacher: Record | None, baseline: Record, setting: Setting, student: FeatureInfo, *, labels: bool = True
) -> None:
    """Warn if the student alone is hardly better than chance, or the teacher no better than it.

    Without `labels` to learn from, a teacher that would be trained on them is no way out.
    """
    task, (split, alone) = setting.task, next(iter(baseline.scores.items()))
    chance, told = task.chance(student.outputs), f"{student.name} alone ({task.text(alone)} on {split})"
    if chance is not None and hardly_better(alone, chance) and setting.trainer.limit_train_batches is None:
        mend = "more recipe.epochs or another recipe.lr may help"
        rank_zero_warn(
            f"{told} is hardly better than chance: trained like this, it says nothing of distillation; {mend}"
        )
    elif teacher is not None and not (
        teacher.scores[split] > alone if task.higher_is_better else teacher.scores[split] < alone
    ):
        source = teacher.training.source or TRAINED
        mend = "another teacher=…"
        if labels:
            mend = f"teacher.adapt=all, which first trains it on these data, or {mend}"
        if labels and chance is not None and teacher.head is None:
            mend = f"teacher.adapt=head, which fits a head to its features, {mend}"
        if teacher.training.epochs and not source.startswith(TRAINED):  # that was done
            mend = "another teacher=…, or another teacher.recipe.lr or teacher.recipe.epochs"
        if source.startswith(TRAINED):
            mend = "a larger teacher=… or more teacher.recipe.epochs"
        rank_zero_warn(
            f"the teacher ({task.text(teacher.scores[split])} on {split}) is no better than {student.name} alone "
            f"({task.text(alone)}): there is little to distil; {mend} may help"
        )
