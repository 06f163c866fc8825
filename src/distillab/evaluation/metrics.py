"""Predictions of a trained model on a split, their metrics, and their agreement with the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.result_parts import AgainstTeacher
from distillab.data.batch import sent
from distillab.evaluation.calibration import Answers, calibration_error
from distillab.models.model import Model
from distillab.models.parts import in_parts
from distillab.models.trace import evaluation_mode

if TYPE_CHECKING:  # it brings lightning, which costs seconds
    from lightning import LightningDataModule


@torch.no_grad()
def predict(
    model: Model,
    data: LightningDataModule,
    split: str,
    device: str | torch.device = "cpu",
    *,
    rows: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda logits, labels: (logits, labels),
) -> tuple[Tensor, Tensor]:
    """Logits (R, classes) in float32 and labels (R,) of a split, in its order, on the CPU; `rows` makes them of a batch's."""
    loader = data.evaluation_dataloader(split)
    model.to(device)
    found = []
    with evaluation_mode(model):
        for batch in loader:
            batch = data.on_after_batch_transfer(batch, 0)
            inputs = sent(batch.inputs[0], torch.device(device))
            logits = torch.cat([model(**part) for part in in_parts(model, inputs)])
            found.append(rows(logits.float().cpu(), batch.labels))
    logits, labels = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(labels)


def top1(logits: Tensor, labels: Tensor) -> float:
    """The share of samples whose largest logit is the label's, from 0 to 1."""
    return (logits.argmax(1) == labels).double().mean().item()


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float | list[float | None]]:
    """The metrics of one model's logits (N, C), at least (1, 2), for labels (N,) from 0 to C - 1, in float64.

    Returns:
        top1, top5: share of samples whose label is among the one or min(5, C) largest logits, of equal ones the first.
        nll: mean of -log p(label), in nats.
        brier: mean over samples of the squared error of the probabilities, summed over classes; 0 to 2 (Brier 1950).
        calibration_error: |confidence - accuracy|, averaged over 15 bins of confidence by their share of the samples
            (expected calibration error, arXiv 1706.04599).
        balanced_accuracy, macro_f1: means of recall and F1 score over the classes that occur among the labels, for F1 also
            among the answers.
        per_class: each class's recall; None for a class without samples.
    """
    classes, logits = logits.shape[1], logits.double()
    log_probabilities = logits.log_softmax(1)
    probabilities = log_probabilities.exp()
    of_label = probabilities.gather(1, labels[:, None]).squeeze(1)
    # A stable sort settles equal logits as argmax does: a network that answers the same for all is not right five times.
    ranked = logits.argsort(dim=1, descending=True, stable=True)[:, :5]
    confusion = confusion_matrix(logits.argmax(1), labels, classes).double()
    right, samples, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    occurs, seen = samples > 0, samples + answered > 0
    recall = right / samples
    return {
        "top1": top1(logits, labels),
        "top5": (ranked == labels[:, None]).any(1).double().mean().item(),
        "nll": F.nll_loss(log_probabilities, labels).item(),
        "brier": ((probabilities**2).sum(1) - 2 * of_label + 1).mean().item(),
        "calibration_error": calibration_error(answers_of(logits, labels)),
        "balanced_accuracy": recall[occurs].mean().item(),
        "macro_f1": (2 * right / (samples + answered))[seen].mean().item(),
        "per_class": [value if has else None for value, has in zip(recall.tolist(), occurs.tolist(), strict=True)],
    }


def answers_of(logits: Tensor, labels: Tensor) -> Answers:
    """The probability of each sample's likeliest class (N,), and whether it is the label."""
    confidence, answer = logits.double().softmax(1).max(1)
    return Answers(confidence.numpy(), (answer == labels).numpy())


def nll_of(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label) of each sample (N,), in nats."""
    return F.cross_entropy(logits.double(), labels, reduction="none")


def against_teacher(logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> AgainstTeacher:
    """The agreement of a student's predictions with its teacher's, and the share of the teacher's errors that it repeats.

    `agreement` is the share of samples with the same answer; `kl` the mean of KL(teacher || student) at temperature 1, in
    nats, None where it is not finite; the share of errors is None where the teacher makes none. A student repeats many
    errors without having learned them, as the same samples are hard for both: what it learned is `statistics.excess`.
    """
    ours, theirs = logits.argmax(1), teacher_logits.argmax(1)
    log_student, log_teacher = logits.double().log_softmax(1), teacher_logits.double().log_softmax(1)
    of_teacher = log_teacher.exp()
    # Where the teacher gives nothing, nothing is lost; 0 times the difference of two -inf would be NaN.
    divergence = torch.where(of_teacher == 0, 0, of_teacher * (log_teacher - log_student)).sum(1)
    wrong = theirs != labels
    errors, kl = int(wrong.sum()), divergence.mean().item()
    return AgainstTeacher(
        agreement=(ours == theirs).double().mean().item(),
        kl=kl if isfinite(kl) else None,
        teacher_errors=errors,
        repeated_errors=(ours == theirs)[wrong].double().mean().item() if errors else None,
    )


def confusion_matrix(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes): row the label, column the answer; `answers` and `labels` are (N,)."""
    return torch.bincount(labels * classes + answers, minlength=classes * classes).view(classes, classes)


def best_class_order(logits: Tensor, labels: Tensor) -> tuple[list[int], float]:
    """For each class the output that fits it best, one to one, and the top-1 (0 to 1) that this order would give."""
    from scipy.optimize import linear_sum_assignment

    pairs = confusion_matrix(logits.argmax(1), labels, logits.shape[1])
    rows, columns = linear_sum_assignment(pairs.numpy(), maximize=True)
    return columns.tolist(), pairs[rows, columns].sum().item() / len(labels)
