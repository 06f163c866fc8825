"""Small trained modules that bring a student's map to a teacher's shape, and the terms built on them."""

from torch import Tensor, nn
from torch.nn import functional as F

from distillab.models.feature_info import FeatureInfo, Stage, match_stages
from distillab.strategies.base import Fields, Outputs, Term


class MapConnector(nn.Module):
    """Convolution, BatchNorm and, where `activated`, ReLU from a student's map to the channels and size of a teacher's.

    The convolution is 1×1 where the sizes are equal, 3×3 with stride 2 where the student's is twice as large, 4×4
    transposed where half as large; any other size is first brought to the teacher's by area pooling or bilinearly.
    """

    def __init__(self, student: Stage, teacher: Stage, *, activated: bool = True) -> None:
        super().__init__()
        self.size = (teacher.height, teacher.width)
        channels = (student.channels, teacher.channels)
        if (student.height, student.width) == (2 * teacher.height, 2 * teacher.width):
            convolution: nn.Module = nn.Conv2d(*channels, 3, stride=2, padding=1, bias=False)
        elif (2 * student.height, 2 * student.width) == (teacher.height, teacher.width):
            convolution = nn.ConvTranspose2d(*channels, 4, stride=2, padding=1, bias=False)
        else:
            convolution = nn.Conv2d(*channels, 1, bias=False)
        self.resize = isinstance(convolution, nn.Conv2d) and convolution.kernel_size == (1, 1)
        self.connect = nn.Sequential(convolution, nn.BatchNorm2d(teacher.channels))
        if activated:
            self.connect.append(nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """(N, student channels, H, W) → (N, teacher channels, teacher height, teacher width)."""
        return self.connect(resized(x, self.size) if self.resize else x)


class PreactivationTerm(Term):
    """A loss of the stages before their activations, weighted 1, 1/2, 1/4, … from the last stage down."""

    needs = ("student.preactivations", "teacher.preactivations")

    def connector(self, student: Stage, teacher: Stage) -> nn.Module:
        """What brings a student's stage to its partner's channels; without a ReLU, as negative values matter."""
        raise NotImplementedError

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Pair the stages and build a connector for each pair."""
        self.pairs = match_stages(student, teacher)
        pairs = ((student.stages[i], teacher.stages[j]) for i, j in self.pairs)
        self.connectors = nn.ModuleList(self.connector(*pair) for pair in pairs)

    def stage_loss(self, x: Tensor, teacher: Outputs, stage: int) -> Tensor:
        """The loss of a connected student map against one stage of the teacher."""
        return self.loss(x, teacher.preactivations[stage], **self.numbers())

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The weighted sum over the stages."""
        stages = zip(self.connectors, self.pairs, strict=True)
        losses = [self.stage_loss(connector(student.preactivations[i]), teacher, j) for connector, (i, j) in stages]
        return sum(loss / 2**above for above, loss in enumerate(reversed(losses)))


class PointBatchNorm(nn.BatchNorm2d):
    """BatchNorm that uses its running statistics where a channel has one value only: a 1×1 map of one sample."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same."""
        if self.training and x.numel() == self.num_features:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (N, C, H, W) of that size, by area pooling or bilinear interpolation."""
    if tuple(x.shape[2:]) == size:
        return x
    larger = x.shape[-1] > size[-1]
    return F.adaptive_avg_pool2d(x, size) if larger else F.interpolate(x, size, mode="bilinear")
