"""What methods of a weak and a strong view have in common: the labels teach both."""

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Fields, Outputs
from distillab.strategies.ce import CrossEntropy


class TwoViewCrossEntropy(CrossEntropy):
    """Cross-entropy with the true labels, summed over the weak and the strong view."""

    rowwise = False
    num_views = 2

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The cross-entropies of both views, added."""
        views = [student[view].logits for view in (0, 1)]
        return torch.stack([F.cross_entropy(z, batch.labels, self._weights(z)) for z in views]).sum()
