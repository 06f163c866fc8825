"""Bits per byte by kind of document, and what the student took over of what its teacher is bad at."""

from collections.abc import Mapping

import torch
from torch import Tensor

from distillab.core.result_parts import Estimate
from distillab.core.rounding import signed
from distillab.core.text_parts import Kind
from distillab.evaluation.text_roles import bits
from distillab.evaluation.token_scores import Column, bits_per_byte, by_document, by_kind


def kinds(scores: Mapping[str, Tensor], names: tuple[str, ...]) -> list[Kind]:
    """Every kind of document with the figures of all roles; [] where there is one kind alone."""
    numbers, _, sizes = by_document(scores["student"])
    weights: dict[str, int] = {}
    for number, size in zip(numbers, sizes, strict=True):
        weights[names[number]] = weights.get(names[number], 0) + int(size)
    return [Kind(name=name, bytes=weights[name], scores=found) for name, found in by_kind(scores, names).items()]


def words(found: list[Kind], scores: Mapping[str, Tensor], names: tuple[str, ...]) -> list[str]:
    """One sentence on the kind that the teacher is worst at, and whether the student took that over.

    It did where it lost against the student alone there, and more than elsewhere, by the 95 % interval over the documents
    of that kind.
    """
    if not found or not {"teacher", "baseline", "student"} <= scores.keys():
        return []
    worst = max(found, key=lambda kind: kind.scores["teacher"])
    (gain, test), (elsewhere, _) = (_gain(scores, names, worst.name, same) for same in (True, False))
    least = min(0.0, elsewhere)
    took = "whether the student took that over is not shown"
    if test is not None and (test.high < least or test.low > least):
        took = f"the student {'took that over' if test.high < least else 'did not take that over'}"
    mean = bits_per_byte(scores["teacher"])
    sure = f"95 % interval {signed(test.low, 3)} to {signed(test.high, 3)}" if test else "one document"
    return [
        f"The teacher is worst on {worst.name} ({worst.scores['teacher']:.3f} bits per byte, {mean:.3f} over all); {took}: "
        f"the gain over the student alone is {signed(gain, 3)} there ({sure}), {signed(elsewhere, 3)} elsewhere."
    ]


def _gain(scores: Mapping[str, Tensor], names: tuple[str, ...], kind: str, same: bool) -> tuple[float, Estimate | None]:
    """The gain of the student over the student alone on the documents of a kind, or on all others."""
    kept = torch.tensor([(name == kind) == same for name in names])
    rows = {role: one[kept[one[:, Column.DOCUMENT].long()]] for role, one in scores.items()}
    return bits_per_byte(rows["baseline"]) - bits_per_byte(rows["student"]), bits(rows["baseline"], rows["student"])
