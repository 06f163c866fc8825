"""All that the answers on the test images say of teacher, student alone and distilled student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from distillab.core.files import replacing
from distillab.evaluation.limits import limits
from distillab.evaluation.metrics import against_teacher, judge
from distillab.evaluation.statistics import paired_samples

STUDENTS = ("baseline", "student")


def judgement(
    logits: Mapping[str, Tensor], labels: Tensor, class_names: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Compare the roles' answers.

    Args:
        logits: (N, C) of `student` and, where the run had them, `teacher` and `baseline`, on the same samples.
        labels: (N,).
        class_names: C names.

    Returns:
        Each role's figures, with `against_teacher` for both students; and `limits`, which needs all three roles, and
        `paired`, which needs the baseline (None where they are not there).
    """
    figures = {role: judge(answers, labels) for role, answers in logits.items()}
    for role in STUDENTS:
        if role in logits and "teacher" in logits:
            figures[role]["against_teacher"] = against_teacher(logits[role], logits["teacher"], labels)
    about: dict[str, Any] = {"limits": None, "paired": None}
    if "baseline" in logits:
        right = [(logits[role].argmax(1) == labels).tolist() for role in ("student", "baseline")]
        about["paired"] = paired_samples(*right)
        if "teacher" in logits:
            roles = (logits["teacher"], logits["baseline"], logits["student"])
            about["limits"] = limits(labels, *roles, class_names)
    return figures, about


def write_predictions(path: Path, logits: Mapping[str, Tensor], labels: Tensor) -> None:
    """Keep what every role answered: `labels` and, by role, the predicted class of each test sample, (N,) int32."""
    answers = {role: values.argmax(1).numpy().astype(np.int32) for role, values in logits.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, labels=labels.numpy().astype(np.int32), **answers)
