"""All that the answers on test say of teacher, student alone and distilled student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from distillab.core.files import plain, replacing
from distillab.core.result_parts import AgainstTeacher, Entry, Limits, Paired, Trained
from distillab.evaluation.limits import limits
from distillab.evaluation.metrics import against_teacher
from distillab.evaluation.statistics import paired_samples


class Roles(NamedTuple):
    """What the roles' answers say.

    Attributes:
        metrics: each role's figures, as the task gives them.
        against_teacher: of both students; empty without a teacher.
        limits: needs all three roles, else None.
        paired: needs the baseline, else None.
    """

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
    """Compare the roles' answers.

    Args:
        logits: (N, C) of `student` and, where the run had them, `teacher` and `baseline`, on the same samples.
        labels: (N,).
        class_names: C names.
        figures: of one role's logits and the labels, as of the task.
    """
    teacher, alone, student = (logits.get(role) for role in ("teacher", "baseline", "student"))
    students = {"baseline": alone, "student": student}
    against, weak, paired = {}, None, None
    if teacher is not None:
        known = {role: answers for role, answers in students.items() if answers is not None}
        against = {role: against_teacher(answers, teacher, labels) for role, answers in known.items()}
    if alone is not None:
        paired = paired_samples(*((answers.argmax(1) == labels).tolist() for answers in (student, alone)))
        if teacher is not None:
            weak = limits(labels, teacher, alone, student, class_names)
    metrics = {role: figures(answers, labels) for role, answers in logits.items()}
    return Roles(metrics, against, weak, paired)


def model_entry(
    name: str,
    record: Mapping[str, Any],
    metrics: Mapping[str, Any],
    against: AgainstTeacher | None,
    *,
    efficiency: Mapping[str, Any],
    primary: str,
    watched: str,
) -> Entry:
    """A network's part of the result.

    Args:
        name: the network's.
        record: of its training: its primary figure by split under that figure's name, and what else is known.
        metrics: its figures on test, as the task gives them.
        against: its agreement with the teacher.
        efficiency: as of `efficiency.measure`.
        primary: the name of the primary figure.
        watched: the split that was looked at after every epoch; where that was test, the figures of the best and of
            the last epoch stand beside that of the epoch that was selected.
    """
    figures = dict(metrics)
    per_class = figures.pop("per_class", None)
    if watched == "test" and record.get("curves"):
        by_epoch = [epoch[f"val/{primary}"] for epoch in record["curves"]]
        figures |= {f"{primary}_best": max(by_epoch), f"{primary}_last": by_epoch[-1]}
    return Entry.model_validate(
        {
            "name": name,
            "metrics": figures,
            "validation": {primary: record[primary].get("validation")},
            "per_class": per_class,
            "against_teacher": against,
            "efficiency": efficiency,
            "training": plain(record),
        }
    )


def lineage_entries(noted: Sequence[Mapping[str, Any]], primary: str) -> list[Trained]:
    """The lineage as a scheme noted it, each network's primary figure by split under that figure's name."""
    return [
        Trained(
            name=made["name"],
            parent=made["parent"],
            metrics={primary: made[primary].get("test")},
            validation={primary: made[primary].get("validation")},
            seconds=made.get("seconds", 0.0),
            reused=made.get("reused"),
        )
        for made in noted
    ]


def write_predictions(path: Path, logits: Mapping[str, Tensor], labels: Tensor) -> None:
    """Keep what every role answered: `labels` and, by role, the predicted class of each test sample, (N,) int32."""
    answers = {role: values.argmax(1).numpy().astype(np.int32) for role, values in logits.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, labels=labels.numpy().astype(np.int32), **answers)
