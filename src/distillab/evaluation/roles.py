"""Compares the predictions of teacher, student alone and distilled student on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from distillab.core.files import replacing
from distillab.core.result_parts import AgainstTeacher, Limits, Paired
from distillab.evaluation.limits import limits
from distillab.evaluation.metrics import against_teacher
from distillab.evaluation.statistics import paired_samples


class Roles(NamedTuple):
    """The comparison of the roles; without all three of them `limits` is None, without the baseline `paired`."""

    metrics: dict[str, dict[str, Any]]
    against_teacher: dict[str, AgainstTeacher]
    limits: Limits | None
    paired: Paired | None


def evaluate_roles(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    class_names: Sequence[str],
    figures: Callable[[Tensor, Tensor], dict[str, Any]],
) -> Roles:
    """Compare the predictions of `student` and, where the run had them, of `teacher` and `baseline`.

    `logits` (N, C) are on the same samples, whose labels are (N,); `figures` of one role are those of the task.
    """
    teacher, alone, student = (logits.get(role) for role in ("teacher", "baseline", "student"))
    against, weak, paired = {}, None, None
    if teacher is not None:
        taught = {role: answers for role, answers in logits.items() if role != "teacher"}
        against = {role: against_teacher(answers, teacher, labels) for role, answers in taught.items()}
    if alone is not None:
        paired = paired_samples(*((answers.argmax(1) == labels).tolist() for answers in (student, alone)))
        if teacher is not None:
            weak = limits(labels, teacher, alone, student, class_names=class_names)
    return Roles({role: figures(answers, labels) for role, answers in logits.items()}, against, weak, paired)


def with_extremes(
    metrics: Mapping[str, Any], curves: Sequence[Mapping[str, Any]], primary: str, *, higher_is_better: bool
) -> dict[str, Any]:
    """A network's metrics, and the primary figure of the best and of the last epoch, where every epoch was tested."""
    if not curves:
        return {**metrics}
    by_epoch = [epoch[f"val/{primary}"] for epoch in curves]
    best = max(by_epoch) if higher_is_better else min(by_epoch)
    return {**metrics, f"{primary}_best": best, f"{primary}_last": by_epoch[-1]}


def write_predictions(path: Path, logits: Mapping[str, Tensor], labels: Tensor) -> None:
    """Write every role's predictions: `labels` and, by role, the predicted class of each test sample, (N,) int32."""
    answers = {role: values.argmax(1).numpy().astype(np.int32) for role, values in logits.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, labels=labels.numpy().astype(np.int32), **answers)
