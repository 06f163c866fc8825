"""One for all: exits at the student's stages learn the teacher's output, its target raised (Hao et al., 2310.19444)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from distillab.models.feature_info import FeatureInfo, Stage
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.connectors import PointBatchNorm
from distillab.strategies.parts.logits import LogitsTerm, log_softened, mean_of_rows

__all__ = ["ofa"]


@mean_of_rows(positive=("eps", "temperature"))
def ofa(s: Tensor, t: Tensor, y: Tensor, eps: float = 1.0, temperature: float = 1.0) -> Tensor:
    """−Σ ((p + m)^ε − m) · log q, p = softmax(t / T), q = softmax(s / T), m the one-hot target (arXiv 2310.19444).

    Logits s, t (N, C), int64 labels y (N,); mean over N, no T². This is the authors' code: the paper's formula raises
    the target's 1 + p alone, and holds the labels' cross-entropy, which is a term of its own here. ε = 1 is the soft
    cross-entropy of `kd`.
    """
    log_q, log_p = log_softened(s, t, temperature)
    share = (eps * log_p).exp()
    target = torch.expm1(eps * torch.log1p(log_p.exp()))  # (1 + p)^ε − 1, exact for small p
    goal = share.scatter(-1, y[:, None], target.gather(-1, y[:, None]))
    return -(goal * log_q).sum(-1)


class OFA(LogitsTerm, loss=ofa):
    """The term of `ofa` on the student's own logits."""

    needs = (*LogitsTerm.needs, "batch.labels")
    above = {"eps": 0}

    weight: Scheduled = 1.0
    eps: float = 1.0
    temperature: Scheduled = 1.0


class Exit(nn.Module):
    """Logits of a stage: separable convolutions that halve its map, the mean over places, a linear layer.

    A last map (`halvings` 0) goes through a 1×1 convolution instead. A transformer's tokens are read as the map they come
    from; the authors' exit of a transformer has blocks of attention, which this one has not.
    """

    def __init__(self, stage: Stage, halvings: int, width: int, outputs: int) -> None:
        super().__init__()
        channels = [stage.channels * 2**i for i in range(halvings)] + [width]
        layers = [layer for pair in pairwise(channels) for layer in _separable(*pair)]
        self.body = nn.Sequential(*layers) if layers else nn.Conv2d(stage.channels, width, 1)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, outputs)."""
        return self.head(self.body(x).mean((2, 3)))


def _separable(channels: int, goal: int) -> list[nn.Module]:
    """Twice a depthwise and a pointwise convolution with BatchNorm and ReLU, the first with stride 2."""
    layers: list[nn.Module] = []
    for stride, out in ((2, channels), (1, goal)):
        depthwise = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        layers += [depthwise, nn.Conv2d(channels, out, 1, bias=False), PointBatchNorm(out), nn.ReLU()]
    return layers


class Exits(Term):
    """The term of `ofa` on the logits of an exit at every stage of the student, summed over the stages.

    The exits learn with the student, and are not deployed.
    """

    needs = ("student.stages", "teacher.logits", "batch.labels")
    rowwise = True
    above = {"eps": 0}
    weight: Scheduled = 1.0
    eps: float = 1.0
    temperature: Scheduled = 1.0

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Build the exits, as wide as the wider of both embeddings."""
        width = max(student.last_map.channels, student.embedding or 0, teacher.embedding or 0)
        halvings = range(len(student.stages) - 1, -1, -1)
        stages = zip(student.stages, halvings, strict=True)
        self.exits = nn.ModuleList(Exit(stage, times, width, student.outputs) for stage, times in stages)

    def feature_rows(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The sum over the exits, (N,)."""
        logits = [leave(x) for leave, x in zip(self.exits, student.stages, strict=True)]
        rows = [ofa.rows(s, teacher.logits, batch.labels, **self.numbers()) for s in logits]
        return torch.stack(rows).sum(0)
