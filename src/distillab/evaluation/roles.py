"""Compares the predictions of teacher, student alone and distilled student on test."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from distillab.core.result import REFERENCES, reference_of
from distillab.core.result_parts import AgainstAlone, AgainstTeacher, Calibration, Estimate, Limits, Paired
from distillab.evaluation.calibration import calibration, worse_calibrated
from distillab.evaluation.limits import limits
from distillab.evaluation.metrics import against_teacher, answers_of, nll_of
from distillab.evaluation.statistics import LEVEL, excess, mean_test, paired_samples, score_test


class Roles(NamedTuple):
    """The comparison of the roles; what lacks one of its roles is None or empty.

    `gap` is the teacher's figure less that of the reference (`result.reference_of`), positive where it is better; `kept`
    what is written of each sample, as of `kept.write`.
    """

    metrics: dict[str, dict[str, Any]]
    against_teacher: dict[str, AgainstTeacher] = {}
    limits: Limits | None = None
    paired: Paired | None = None
    gap: Estimate | None = None
    against_alone: AgainstAlone | None = None
    intervals: dict[str, dict[str, Estimate]] = {}
    calibration: dict[str, Calibration] = {}
    kept: dict[str, np.ndarray] = {}


def evaluate_roles(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    class_names: Sequence[str],
    figures: Callable[[Tensor, Tensor], dict[str, Any]],
) -> Roles:
    """Compare the classes that `student` and, where the run had them, `teacher`, `baseline` and `random` weights predict.

    The student and the teacher are compared with the run's reference.

    `logits` (N, C) are on the same samples, whose labels are (N,); `figures` of one role are those of the task.
    """
    over = reference_of(logits)
    teacher, alone, student = (logits.get(role) for role in ("teacher", over, "student"))
    answers = {role: rows.argmax(1) for role, rows in logits.items()}
    right = {role: (each == labels).numpy() for role, each in answers.items()}
    losses = {role: nll_of(rows, labels).numpy() for role, rows in logits.items()}
    sure = {role: answers_of(rows, labels) for role, rows in logits.items()}
    found = Roles(
        {role: figures(rows, labels) for role, rows in logits.items()},
        intervals={role: _intervals(right[role], losses[role]) for role in logits},
        calibration={role: calibration(one) for role, one in sure.items()},
        kept={"labels": labels.numpy().astype(np.int32)}
        | {role: each.numpy().astype(np.int32) for role, each in answers.items()}
        | {f"nll_{role}": each.astype(np.float32) for role, each in losses.items()},
    )
    if teacher is not None:
        known = {role: logits[role] for role in ("baseline", "random", "student") if role in logits}
        against = {role: against_teacher(rows, teacher, labels) for role, rows in known.items()}
        if alone is not None:
            wrong = ~right["teacher"]
            same = {role: (answers[role] == answers["teacher"]).numpy()[wrong] for role in known}
            against["student"] = against["student"].model_copy(update={"excess": excess(same["student"], same[over])})
        found = found._replace(against_teacher=against)
    if alone is not None:
        spoiled = AgainstAlone(
            nll=estimate(losses["student"] - losses[over]),
            calibration_error=worse_calibrated(sure["student"], sure[over]),
        )
        found = found._replace(paired=paired_samples(right["student"], right[over]), against_alone=spoiled)
    if teacher is not None and alone is not None:
        gap = Estimate(**score_test(right["teacher"].astype(int) - right[over])._asdict())
        weak = limits(labels, teacher, alone, student, class_names=class_names, over=REFERENCES[over])
        found = found._replace(gap=gap, limits=weak)
    return found


def _intervals(right: np.ndarray, losses: np.ndarray) -> dict[str, Estimate]:
    from scipy.stats import binomtest  # late: it takes a second

    low, high = map(float, binomtest(int(right.sum()), len(right)).proportion_ci(LEVEL, "wilson"))
    found = {"top1": Estimate(value=float(right.mean()), low=low, high=high), "nll": estimate(losses, tested=False)}
    return {key: one for key, one in found.items() if one is not None}


def estimate(values: np.ndarray, *, tested: bool = True) -> Estimate | None:
    """The mean over samples (N,), `tested` against zero or not; None where it or its spread is not finite."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    found = mean_test(values)
    return Estimate(value=found.value, low=found.low, high=found.high, p=found.p if tested else None)


def with_extremes(
    metrics: Mapping[str, Any], curves: Sequence[Mapping[str, Any]], primary: str, *, higher_is_better: bool
) -> dict[str, Any]:
    """A network's metrics, and the primary figure of the best and of the last epoch, where every epoch was tested."""
    if not curves:
        return {**metrics}
    by_epoch = [epoch[f"val/{primary}"] for epoch in curves]
    best = max(by_epoch) if higher_is_better else min(by_epoch)
    return {**metrics, f"{primary}_best": best, f"{primary}_last": by_epoch[-1]}
