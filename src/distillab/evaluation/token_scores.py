"""Figures of a language model on held-out text, token by token, and their intervals by document."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillab.core.result_parts import AgainstTeacher, Paired
from distillab.evaluation.metrics import CALIBRATION_BINS
from distillab.models.logit_rows import LogitRows, dense

ROWS_AT_ONCE = 2**24  # logits
RESAMPLES = 2000
LEVEL = 0.95


class Column(IntEnum):
    """The columns of `token_scores`, one row for each token."""

    NLL = 0  # -log p(token), in nats
    ANSWER = 1  # the likeliest token
    CONFIDENCE = 2  # its probability
    ENTROPY = 3  # of the distribution, in nats
    SIZE = 4  # bytes of the token's text
    DOCUMENT = 5  # number of its document


def token_scores(logits: Tensor | LogitRows, labels: Tensor, sizes: Tensor, documents: Tensor) -> Tensor:
    """The columns of `Column` (R, 6) in float64 of logits (R, V) for labels, sizes and documents (R,), on the CPU."""
    step = max(1, ROWS_AT_ONCE // logits.shape[-1])
    parts = []
    for first in range(0, len(labels), step):
        log_p = dense(logits[first : first + step]).log_softmax(-1)
        p = log_p.exp()
        confidence, answer = p.max(-1)
        nll = -log_p.gather(-1, labels[first : first + step, None]).squeeze(-1)
        entropy = -torch.where(p > 0, p * log_p, 0).sum(-1)
        parts.append(torch.stack([nll.double(), answer.double(), confidence.double(), entropy.double()], -1).cpu())
    about = torch.stack([sizes.double(), documents.double()], -1).cpu()
    scored = torch.cat(parts) if parts else torch.empty(0, 4, dtype=torch.float64)
    return torch.cat([scored, about], -1)


def bits_per_byte(scores: Tensor) -> float:
    """All tokens' negative log-likelihood in bits over the bytes of their text; comparable across tokenizers."""
    return (scores[:, Column.NLL].sum() / log(2) / scores[:, Column.SIZE].sum().clamp(min=1)).item()


def text_metrics(scores: Tensor, labels: Tensor) -> dict[str, Any]:
    """The metrics of one model's token scores (R, 6) for labels (R,).

    Returns:
        bits_per_byte: as `bits_per_byte`.
        perplexity: exp of the mean nll of a token, comparable for one tokenizer alone.
        nll: the mean of a token, in nats.
        top1: the share of tokens that are the likeliest one.
        calibration_error: |confidence - accuracy| of the likeliest token, averaged over 15 bins (arXiv 1706.04599).
    """
    nll = scores[:, Column.NLL].mean()
    right = scores[:, Column.ANSWER] == labels
    return {
        "bits_per_byte": bits_per_byte(scores),
        "perplexity": nll.exp().item(),
        "nll": nll.item(),
        "top1": right.double().mean().item(),
        "calibration_error": calibration_error(scores[:, Column.CONFIDENCE], right),
    }


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """|confidence - accuracy|, averaged over bins of equal width by their share of the tokens (R,)."""
    bins = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    gaps = torch.zeros(CALIBRATION_BINS, dtype=torch.float64).index_add(0, bins, confidence - right.double())
    return (gaps.abs().sum() / max(len(right), 1)).item()


def against_teacher(scores: Tensor, teacher: Tensor, labels: Tensor) -> AgainstTeacher:
    """How often a student's likeliest token is its teacher's, and how many of the teacher's errors it repeats.

    An error is a token that is not the likeliest one; by chance as in `distillab.evaluation.metrics.against_teacher`.
    """
    ours, theirs = scores[:, Column.ANSWER].long(), teacher[:, Column.ANSWER].long()
    wrong = theirs != labels
    errors = int(wrong.sum())
    return AgainstTeacher(
        agreement=(ours == theirs).double().mean().item(),
        teacher_errors=errors,
        repeated_errors=(ours == theirs)[wrong].double().mean().item() if errors else None,
        repeated_by_chance=_by_chance(ours, theirs, labels)[wrong].mean().item() if errors else None,
    )


def _by_chance(ours: Tensor, theirs: Tensor, labels: Tensor) -> Tensor:
    """For each token (R,) the share of the tokens of its label that the student answers as the teacher does here.

    The table of all pairs of label and answer would be a vocabulary squared, and nearly all of it empty.
    """
    width = int(torch.stack([ours, theirs, labels]).max()) + 1
    pairs, counts = (labels * width + ours).unique(return_counts=True)
    wanted = labels * width + theirs
    place = torch.searchsorted(pairs, wanted).clamp(max=len(pairs) - 1)
    return torch.where(pairs[place] == wanted, counts[place], 0).double() / labels.bincount()[labels]


def by_document(scores: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the documents (D,), their bits and their bytes."""
    numbers, place = scores[:, Column.DOCUMENT].long().unique(return_inverse=True)
    sums = torch.zeros(len(numbers), 2, dtype=torch.float64)
    sums.index_add_(0, place, scores[:, [Column.NLL, Column.SIZE]])
    return numbers.numpy(), (sums[:, 0] / log(2)).numpy(), sums[:, 1].numpy()


def interval(scores: Tensor) -> tuple[float, float]:
    """The 95 % interval of bits per byte by a bootstrap over documents: tokens of one document are no independent draws."""
    _, bits, sizes = by_document(scores)
    drawn = _drawn(len(bits))
    values = bits[drawn].sum(1) / np.maximum(sizes[drawn].sum(1), 1)
    return _bounds(values)


def paired_documents(student: Tensor, baseline: Tensor) -> Paired:
    """Two trained models on the same documents: the gain in bits per byte, its bootstrap interval, and a sign-flip test.

    `low` and `high` are the 95 % interval of the gain (positive: the student needs fewer bits), from 2,000 draws of as many
    documents; p is that of the mean difference of a document under random signs. It says whether these two models differ
    on documents like the tested ones; about the methods that made them it says nothing.
    """
    _, ours, sizes = by_document(student)
    _, theirs, _ = by_document(baseline)
    gained = theirs - ours
    drawn = _drawn(len(gained))
    low, high = _bounds(gained[drawn].sum(1) / np.maximum(sizes[drawn].sum(1), 1))
    gain = float(gained.sum() / max(sizes.sum(), 1))
    return Paired(p=sign_flip(gained), low=low, high=high, words=_words(gain, low, high, len(gained)))


def sign_flip(differences: np.ndarray, draws: int = 9999) -> float:
    """The two-sided p of no difference (D,): how many random signs give as large a sum; exact up to 13 documents."""
    count = len(differences)
    if count <= 13:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        extra = 0
    else:
        signs, extra = np.random.RandomState(0).choice([-1, 1], (draws, count)), 1
    reached = np.abs(signs @ differences) >= abs(differences.sum()) * (1 - 1e-12)
    return float((reached.sum() + extra) / (len(signs) + extra))


def _drawn(documents: int) -> np.ndarray:
    return np.random.RandomState(0).randint(documents, size=(RESAMPLES, documents))


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _words(gain: float, low: float, high: float, documents: int) -> str:
    interval_ = f"{gain:+z.3f} bits per byte (95 % interval {low:z.3f} to {high:z.3f})".replace("-", "−")
    models, seed = f"these two trained models on {documents} documents", "one seed says nothing of the methods"
    if documents > 1 and (low > 0 or high < 0):
        return f"gain of {interval_} between {models}, shown; {seed}"
    return f"no difference shown between {models}: gain of {interval_}; {seed}"


def by_kind(scores: Mapping[str, Tensor], kinds: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Bits per byte of each role on each kind of document; {} for documents of one kind."""
    found: dict[str, dict[str, float]] = {}
    for role, rows in scores.items():
        numbers, bits, sizes = by_document(rows)
        named = np.array([kinds[number] for number in numbers])
        for kind in sorted(set(named)):
            chosen = named == kind
            found.setdefault(kind, {})[role] = float(bits[chosen].sum() / max(sizes[chosen].sum(), 1))
    return found if len(found) > 1 else {}
