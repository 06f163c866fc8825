"""Compares the predictions of teacher, student alone and distilled student on test."""

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
    """The comparison of the roles; without all three of them `limits` is None, without the baseline `paired`.

    `answers` are the predicted classes (N,) by role. A task without classes has the `metrics` alone.
    """

    metrics: dict[str, dict[str, Any]]
    against_teacher: dict[str, AgainstTeacher] = {}
    limits: Limits | None = None
    paired: Paired | None = None
    answers: dict[str, Tensor] = {}


def evaluate_roles(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    class_names: Sequence[str],
    figures: Callable[[Tensor, Tensor], dict[str, Any]],
) -> Roles:
    """Compare the classes that `student` and, where the run had them, `teacher` and `baseline` predict.

    `logits` (N, C) are on the same samples, whose labels are (N,); `figures` of one role are those of the task.
    """
    teacher, alone, student = (logits.get(role) for role in ("teacher", "baseline", "student"))
    against, weak, paired = {}, None, None
    answers = {role: rows.argmax(1) for role, rows in logits.items()}
    if teacher is not None:
        known = {role: logits[role] for role in ("baseline", "student") if role in logits}
        against = {role: against_teacher(rows, teacher, labels) for role, rows in known.items()}
    if alone is not None:
        paired = paired_samples(*((answers[role] == labels).tolist() for role in ("student", "baseline")))
        if teacher is not None:
            weak = limits(labels, teacher, alone, student, class_names=class_names)
    metrics = {role: figures(rows, labels) for role, rows in logits.items()}
    return Roles(metrics, against, weak, paired, answers)


def with_extremes(
    metrics: Mapping[str, Any], curves: Sequence[Mapping[str, Any]], primary: str, *, higher_is_better: bool
) -> dict[str, Any]:
    """A network's metrics, and the primary figure of the best and of the last epoch, where every epoch was tested."""
    if not curves:
        return {**metrics}
    by_epoch = [epoch[f"val/{primary}"] for epoch in curves]
    best = max(by_epoch) if higher_is_better else min(by_epoch)
    return {**metrics, f"{primary}_best": best, f"{primary}_last": by_epoch[-1]}


def write_predictions(path: Path, answers: Mapping[str, Tensor], labels: Tensor) -> None:
    """Write `labels` and, by role, the predicted class of each test sample, (N,) int32."""
    columns = {name: values.numpy().astype(np.int32) for name, values in ({"labels": labels} | dict(answers)).items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **columns)
