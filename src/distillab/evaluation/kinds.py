"""Bits per byte by kind of document, and what the student took over of what its teacher is bad at."""

from collections.abc import Mapping

from torch import Tensor

from distillab.core.text_parts import Kind
from distillab.evaluation.token_scores import Column, by_document, by_kind


def kinds(scores: Mapping[str, Tensor], names: tuple[str, ...]) -> list[Kind]:
    """Every kind of document with the figures of all roles; [] where there is one kind alone."""
    numbers, _, sizes = by_document(scores["student"])
    weights: dict[str, int] = {}
    for number, size in zip(numbers, sizes, strict=True):
        weights[names[number]] = weights.get(names[number], 0) + int(size)
    return [Kind(name=name, bytes=weights[name], scores=found) for name, found in by_kind(scores, names).items()]


def words(found: list[Kind], scores: Mapping[str, Tensor]) -> list[str]:
    """One sentence on the kind that the teacher is worst at, and what distilling did there and elsewhere."""
    if not found or not {"teacher", "baseline", "student"} <= scores.keys():
        return []
    worst = max(found, key=lambda kind: kind.scores["teacher"])
    own = {role: worst.scores[role] for role in ("teacher", "baseline", "student")}
    others = [kind for kind in found if kind is not worst]
    total = sum(kind.bytes for kind in others)
    elsewhere = sum(kind.bytes * (kind.scores["baseline"] - kind.scores["student"]) for kind in others) / total
    gain = own["baseline"] - own["student"]
    whole = scores["teacher"][:, Column.SIZE].sum().item()
    mean = sum(kind.bytes * kind.scores["teacher"] for kind in found) / whole
    took = "took that over" if gain < min(0.0, elsewhere) else "did not take that over"
    there, rest = (f"{value:+z.3f}".replace("-", "−") for value in (gain, elsewhere))
    return [
        f"The teacher is worst on {worst.name} ({own['teacher']:.3f} bits per byte, {mean:.3f} over all), and the student "
        f"{took}: there it gained {there} over the student alone, elsewhere {rest}."
    ]
