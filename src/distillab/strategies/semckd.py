"""Cross-layer distillation with semantic calibration: attention pairs the stages (Chen et al., arXiv 2012.03236)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.connectors import PointBatchNorm
from distillab.strategies.parts.features import inner, pool_to_smaller, unit


class SimilarityEmbedding(nn.Module):
    """A unit vector for each sample from its similarities to the batch, which are pooled or repeated to that many."""

    def __init__(self, similarities: int) -> None:
        super().__init__()
        self.similarities = similarities
        hidden, out = 2 * (similarities // 4), similarities // 4
        self.layers = nn.Sequential(nn.Linear(similarities, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) → (N, similarities / 4)."""
        flat = features.flatten(1)
        similarity = inner(flat, flat)
        if len(flat) != self.similarities:
            similarity = F.adaptive_avg_pool1d(similarity, self.similarities)
        return unit(self.layers(similarity))


def projection(channels: int, goal: int) -> nn.Sequential:
    """1×1, 3×3 and 1×1 convolutions from a student stage's channels to a teacher stage's."""
    middle = 2 * goal
    first, second = nn.Conv2d(channels, middle, 1, bias=False), nn.Conv2d(middle, middle, 3, padding=1, bias=False)
    layers = [layer for conv in (first, second) for layer in (conv, PointBatchNorm(middle), nn.ReLU(inplace=True))]
    return nn.Sequential(*layers, nn.Conv2d(middle, goal, 1, bias=False))


class SemCKD(Term):
    """Mean squared error between every stage of the student and every stage of the teacher, weighted by attention.

    A student stage asks with its similarities between samples, the teacher's stages answer with theirs; the attention
    over them sums to 1. With batches of `batch_size`, from 4, it is the published one; of any other size, an incomplete
    last batch too, the similarities are pooled or repeated to it.
    """

    needs = ("student.stages", "teacher.stages")
    global_batch = True
    above = {"batch_size": 3}
    weight: Scheduled = 400.0
    batch_size: int = 64

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Build a query for each student stage, a key for each of the teacher's, a projection for each pair."""
        self.queries = nn.ModuleList(SimilarityEmbedding(self.batch_size) for _ in student.stages)
        self.keys = nn.ModuleList(SimilarityEmbedding(self.batch_size) for _ in teacher.stages)
        rows = [[projection(stage.channels, goal.channels) for goal in teacher.stages] for stage in student.stages]
        self.projections = nn.ModuleList(nn.ModuleList(row) for row in rows)

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The errors of all pairs of stages, weighted by attention; mean over samples and student stages."""
        goals = [y.detach() for y in teacher.stages]
        queries = torch.stack([query(x) for query, x in zip(self.queries, student.stages, strict=True)], 1)
        keys = torch.stack([key(x) for key, x in zip(self.keys, goals, strict=True)], 1)
        attention = inner(queries, keys).softmax(-1)  # (N, student stages, teacher stages)
        rows = zip(self.projections, student.stages, strict=True)
        errors = [[self._error(project, x, y) for project, y in zip(row, goals, strict=True)] for row, x in rows]
        errors = torch.stack([torch.stack(row, 1) for row in errors], 1)
        return (attention * errors).sum(-1).mean()

    def _error(self, project: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared error of each sample at the smaller of the two sizes, (N,)."""
        x, y = pool_to_smaller(x, y)
        return (project(x) - y).square().flatten(1).mean(1)
