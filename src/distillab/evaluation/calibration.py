"""Calibration error with its interval, what a calibrated network would have, and whether a method spoils it."""

from typing import NamedTuple

import numpy as np

from distillab.core.result_parts import Calibration, Estimate
from distillab.evaluation.statistics import LEVEL

BINS = 15
DRAWS = 4000


class Answers(NamedTuple):
    """Of each sample (n,): the probability of the answer, whether it is right, and the document it belongs to, if any."""

    confidence: np.ndarray
    right: np.ndarray
    cluster: np.ndarray | None = None


def calibration_error(answers: Answers) -> float:
    """|confidence - accuracy|, averaged over 15 bins of confidence by their share of the samples (arXiv 1706.04599)."""
    return float(np.abs(_gaps(answers).mean(0)).sum() * _per_sample(answers)) if len(answers.right) else 0.0


def calibration(answers: Answers) -> Calibration:
    """The calibration error with its interval, and a test against a calibrated network with these confidences.

    A calibrated network is right with the probability of its confidence, and so has a calibration error too: about five
    points on 360 images. The bins' gaps are taken as normal, and drawn with a fixed seed.
    """
    gaps = _gaps(answers)
    error = calibration_error(answers)
    variance = (
        np.bincount(_bins(answers), answers.confidence * (1 - answers.confidence), BINS) / len(answers.right) ** 2
    )
    chance = np.abs(np.random.RandomState(0).standard_normal((DRAWS, BINS)) * np.sqrt(variance)).sum(1)
    scale = _per_sample(answers)
    low, high = _interval(gaps.mean(0) * scale, _covariance(gaps) * scale**2, np.ones(BINS))
    p = float((1 + (chance >= error - 1e-12).sum()) / (1 + DRAWS))
    return Calibration(
        value=error,
        low=max(low, 0.0) if p < 1 - LEVEL else 0.0,
        high=max(high, error),
        expected=float(chance.mean()),
        most=float(np.quantile(chance, LEVEL)),
        p=p,
    )


def worse_calibrated(student: Answers, alone: Answers) -> Estimate | None:
    """The calibration error of a student less that of the student alone, on the same samples; above zero is worse.

    None where there is no spread to tell how sure that is: of one sample, or one cluster.
    """
    gaps = np.concatenate([_gaps(student), _gaps(alone)], 1)
    if len(gaps) < 2:
        return None
    scale = _per_sample(student)
    sign = np.repeat([1.0, -1.0], BINS)
    low, high = _interval(gaps.mean(0) * scale, _covariance(gaps) * scale**2, sign)
    return Estimate(value=calibration_error(student) - calibration_error(alone), low=low, high=high)


def _bins(answers: Answers) -> np.ndarray:
    return np.minimum((np.asarray(answers.confidence) * BINS).astype(int), BINS - 1)


def _gaps(answers: Answers) -> np.ndarray:
    """Sums of confidence - right by cluster and bin (D, bins)."""
    cluster = np.arange(len(answers.right)) if answers.cluster is None else answers.cluster
    numbers, place = np.unique(cluster, return_inverse=True)
    apart = np.asarray(answers.confidence, float) - np.asarray(answers.right, float)
    return np.bincount(place * BINS + _bins(answers), apart, len(numbers) * BINS).reshape(-1, BINS)


def _per_sample(answers: Answers) -> float:
    clusters = len(answers.right) if answers.cluster is None else len(np.unique(answers.cluster))
    return clusters / len(answers.right)


def _covariance(gaps: np.ndarray) -> np.ndarray:
    """Of the means of the columns."""
    return np.atleast_2d(np.cov(gaps, rowvar=False)) / len(gaps) if len(gaps) > 1 else np.zeros((gaps.shape[1],) * 2)


def _interval(gaps: np.ndarray, covariance: np.ndarray, sign: np.ndarray) -> tuple[float, float]:
    """Of the sum of sign · |true gap|: how far the sum of noisy gaps is off is drawn about gaps freed of their noise.

    How much the noise adds to the sum is known roughly (gaps about as large as the noise hide in it), so the interval reaches
    from where all of that is taken off to where none is.
    """
    centre = np.sign(gaps) * np.sqrt(np.maximum(gaps**2 - np.diag(covariance), 0))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    drawn = np.abs(centre + np.random.RandomState(0).standard_normal((DRAWS, len(gaps))) @ root.T) @ sign
    off = drawn - np.abs(centre) @ sign
    low, high = np.quantile(off, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found = float(np.abs(gaps) @ sign)
    added = float(off.mean())
    return found - float(high) + min(added, 0.0), found - float(low) + max(added, 0.0)
