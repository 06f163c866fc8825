"""Similarity preserving: which images of a batch look alike to the teacher (Tung, Mori, arXiv 1907.09682)."""

from torch import Tensor

from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.features import checked, inner, unit

__all__ = ["similarity_preserving"]


def similarity_preserving(F_s: Tensor, F_t: Tensor) -> Tensor:
    """Squared difference of similarity matrices of (N, …), rows L2-normalised, over N² (arXiv 1907.09682)."""
    F_s, F_t = (x.flatten(1) for x in checked("N, …", F_s=F_s, F_t=F_t.detach()))
    return (unit(inner(F_s, F_s)) - unit(inner(F_t, F_t))).square().sum() / len(F_s) ** 2


class SimilarityPreserving(Term):
    """The term of `similarity_preserving`, on the last stage's map."""

    needs = ("student.stages", "teacher.stages")
    global_batch = True
    weight: Scheduled = 3000.0

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        return similarity_preserving(student.stages[-1], teacher.stages[-1])
