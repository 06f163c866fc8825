"""Figures of a language model on held-out text, token by token, and their intervals by document."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillab.evaluation.calibration import Answers, calibration_error
from distillab.evaluation.statistics import per_cluster
from distillab.models.logit_rows import LogitRows, dense

ROWS_AT_ONCE = 2**24  # logits


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
        "calibration_error": calibration_error(answers_of(scores, labels)),
    }


def answers_of(scores: Tensor, labels: Tensor) -> Answers:
    """The confidence of each token's likeliest one (R,), whether it is right, and its document."""
    columns = (scores[:, Column.CONFIDENCE], scores[:, Column.ANSWER] == labels, scores[:, Column.DOCUMENT].long())
    return Answers(*(column.numpy() for column in columns))


def by_document(scores: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the documents (D,), their bits and their bytes."""
    documents = scores[:, Column.DOCUMENT].long().numpy()
    bits, sizes = (per_cluster(scores[:, key].numpy(), documents) for key in (Column.NLL, Column.SIZE))
    return np.unique(documents), bits / log(2), sizes


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
