"""What methods of a weak and a strong view have in common: the labels teach both."""

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Fields, Outputs, Term


class TwoViewCrossEntropy(Term):
    """Cross-entropy with the true labels, summed over the weak and the strong view."""

    needs = ("student.logits", "batch.labels")
    kind = "task"
    num_views = 2
    soft_labels = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The cross-entropies of both views, added."""
        return torch.stack([F.cross_entropy(student[view].logits, batch.labels) for view in (0, 1)]).sum()
