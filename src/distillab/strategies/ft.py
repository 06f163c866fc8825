"""Factor transfer: the teacher paraphrases its map, the student translates its own (Kim et al., arXiv 1802.04977)."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.hint import hint
from distillab.strategies.parts.features import check_pixels, checked, pool_to_smaller, root

__all__ = ["factor_transfer", "ft_factor"]

SMALLEST_NORM = 1e-12
SLOPE = 0.1  # of LeakyReLU below 0


def ft_factor(F: Tensor) -> Tensor:
    """Mean over channels of the squares, flattened and L2-normalised: (N, C, H, W) → (N, H·W) (arXiv 1802.04977)."""
    [F] = checked("N, C, H, W", F=F)
    squares = F.square().mean(1).flatten(1)
    return squares / root(squares.square().sum(1, keepdim=True)).clamp(min=SMALLEST_NORM)


def factor_transfer(F_s: Tensor, F_t: Tensor) -> Tensor:
    """Mean absolute difference of the `ft_factor`s of maps (N, C, H, W), the larger pooled (arXiv 1802.04977)."""
    F_s, F_t = pool_to_smaller(*checked("N, C, H, W", F_s=F_s, F_t=F_t.detach()))
    return (ft_factor(F_s) - ft_factor(F_t)).abs().mean()


def layers(kind: type[nn.Module], channels: list[int], norm: bool) -> nn.Sequential:
    """3×3 (transposed) convolutions of stride 1 from one number of channels to the next, each with LeakyReLU."""
    found: list[nn.Module] = []
    for before, after in pairwise(channels):
        found += [kind(before, after, 3, padding=1), *([nn.BatchNorm2d(after)] if norm else []), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*found)


class Paraphraser(Term):
    """An autoencoder of the teacher's last map, trained by mean squared error; its code has `rate` of the channels."""

    needs = ("teacher.stages",)
    above = {"rate": 0}
    weight: Scheduled = 1.0
    rate: float = 0.5

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        width = teacher.stages[-1].channels
        self.channels = int(width * self.rate)
        if not self.channels:
            raise UserError(f"rate must leave a channel of the {width} of {teacher.name}, got {self.rate:g}")
        self.encoder = layers(nn.Conv2d, [width, width, self.channels, self.channels], norm=False)
        self.decoder = layers(nn.ConvTranspose2d, [self.channels, self.channels, width, width], norm=False)

    @torch.no_grad()
    def factor(self, teacher: Outputs) -> Tensor:
        """The teacher's last map (N, C, H, W) in its code (N, rate·C, H, W); teaches the paraphraser nothing."""
        return self.encoder(teacher.stages[-1])

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        features = teacher.stages[-1]
        return hint(self.decoder(self.encoder(features)), features)


class FactorTransfer(Term):
    """The term of `factor_transfer` between the student's translated last map and a `Paraphraser`'s factor."""

    needs = ("student.stages", "teacher.stages")
    weight: Scheduled = 200.0

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        check_pixels(student, teacher, "a factor of one pixel is the same for every image")
        self.width = student.stages[-1].channels

    def join(self, terms: Mapping[str, Term]) -> None:
        """Find the paraphraser, and build a translator to as many channels, with BatchNorm."""
        paraphrasers = [term for term in terms.values() if isinstance(term, Paraphraser)]
        if not paraphrasers:
            raise UserError("it needs a paraphraser of the teacher beside it; choose strategy=ft as it is")
        self.paraphrasers = tuple(paraphrasers[:1])  # a tuple, or it would be saved with this term too
        channels = paraphrasers[0].channels
        self.translator = layers(nn.Conv2d, [self.width, self.width, channels, channels], norm=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        return factor_transfer(self.translator(student.stages[-1]), self.paraphrasers[0].factor(teacher))
