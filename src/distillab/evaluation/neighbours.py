"""What features are worth without any training: the class of a sample's nearest neighbours."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = 20
TEMPERATURE = 0.07  # of a neighbour's weight, exp(cosine / temperature)
CHUNK = 2**24  # similarities at once


def by_neighbours(features: Tensor, known: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The votes (N, classes) of the nearest known samples by cosine, each weighted by its similarity.

    `features` are (N, d); `known` (M, d) have the `labels` (M,). Of `NEIGHBOURS`, or all where fewer are known, each counts
    exp(cosine / TEMPERATURE) (Wu et al., arXiv 1805.01978).
    """
    known = F.normalize(known, dim=1)
    count, votes = min(NEIGHBOURS, len(known)), []
    for part in features.split(max(1, CHUNK // len(known))):
        similarity, nearest = (F.normalize(part, dim=1) @ known.T).topk(count)
        weights = (similarity / TEMPERATURE).exp()
        votes.append(torch.zeros(len(part), classes, device=part.device).scatter_add_(1, labels[nearest], weights))
    return torch.cat(votes)
