"""Compares teacher, student alone and distilled student on the tokens of test documents, which are the samples."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from distillab.core.result_parts import AgainstAlone, AgainstTeacher, Estimate, Paired
from distillab.evaluation.calibration import calibration, worse_calibrated
from distillab.evaluation.roles import Roles, estimate
from distillab.evaluation.statistics import excess, linearised, per_cluster
from distillab.evaluation.token_scores import Column, answers_of, by_document, text_metrics


def compare(scores: Mapping[str, Tensor], labels: Tensor) -> Roles:
    """All that `roles.Roles` has of token scores (R, 6) and labels (R,) by role, but for limits."""
    teacher, alone, student = (scores.get(role) for role in ("teacher", "baseline", "student"))
    documents = student[:, Column.DOCUMENT].long().numpy()
    sure = {role: answers_of(rows, labels) for role, rows in scores.items()}
    found = Roles(
        {role: text_metrics(rows, labels) for role, rows in scores.items()},
        intervals={role: _intervals(rows, documents) for role, rows in scores.items()},
        calibration={role: calibration(one) for role, one in sure.items()},
        kept={"bytes": by_document(student)[2]}
        | {f"bits_{role}": by_document(rows)[1] for role, rows in scores.items()},
    )
    if teacher is not None:
        known = {role: rows for role, rows in scores.items() if role != "teacher"}
        against = {role: against_teacher(rows, teacher, labels) for role, rows in known.items()}
        if alone is not None:
            wrong = ~sure["teacher"].right
            answer = {role: rows[:, Column.ANSWER].numpy()[wrong] for role, rows in scores.items()}
            repeated = [answer[role] == answer["teacher"] for role in ("student", "baseline")]
            more = {"excess": excess(*repeated, documents[wrong])}
            against["student"] = against["student"].model_copy(update=more)
        found = found._replace(against_teacher=against)
    if alone is not None:
        spoiled = AgainstAlone(
            nll=_per_token(student[:, Column.NLL] - alone[:, Column.NLL], documents),
            calibration_error=worse_calibrated(sure["student"], sure["baseline"]),
        )
        gap = None if teacher is None else bits(alone, teacher)
        found = found._replace(paired=paired_documents(student, alone), against_alone=spoiled, gap=gap)
    return found


def bits(scores: Tensor, less: Tensor | None = None) -> Estimate | None:
    """Bits per byte over documents, or how many more they are than another role's; None of a single document."""
    _, own, sizes = by_document(scores)
    values = own if less is None else own - by_document(less)[1]
    return estimate(linearised(values, sizes), tested=less is not None)


def paired_documents(student: Tensor, baseline: Tensor) -> Paired:
    """The gain of one trained file over the other; with a single document there is no test."""
    test, documents = bits(baseline, student), len(student[:, Column.DOCUMENT].unique())
    if test is None:
        return Paired()
    return Paired(**dict(test), documents=documents)


def against_teacher(scores: Tensor, teacher: Tensor, labels: Tensor) -> AgainstTeacher:
    """How often a student's likeliest token is its teacher's, and the share of the teacher's errors that it repeats.

    An error is a token that is not the likeliest one.
    """
    same = scores[:, Column.ANSWER] == teacher[:, Column.ANSWER]
    wrong = teacher[:, Column.ANSWER] != labels
    return AgainstTeacher(
        agreement=same.double().mean().item(),
        teacher_errors=int(wrong.sum()),
        repeated_errors=same[wrong].double().mean().item() if wrong.any() else None,
    )


def _intervals(scores: Tensor, documents: np.ndarray) -> dict[str, Estimate]:
    found = {"bits_per_byte": bits(scores), "nll": _per_token(scores[:, Column.NLL], documents, tested=False)}
    return {key: one for key, one in found.items() if one is not None}


def _per_token(values: Tensor, documents: np.ndarray, *, tested: bool = True) -> Estimate | None:
    totals, tokens = (per_cluster(each, documents) for each in (values.numpy(), np.ones(len(values))))
    return estimate(linearised(totals, tokens), tested=tested)
