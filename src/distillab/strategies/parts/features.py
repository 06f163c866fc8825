"""What the losses on features share: checks of tensors and of models, inner products, norms and sizes."""

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo, match_stages
from distillab.strategies.base import Fields, Outputs, Term


def checked(form: str, **tensors: Tensor) -> list[Tensor]:
    """The tensors in one dtype, float32 or wider, if all have the form, e.g. "N, C, H, W", and one batch size.

    "N, …" is any number of dimensions above one; the tensors are a loss's arguments, by name.
    """
    found = list(tensors.values())
    dimensions = len(form.split(","))
    fits = all(x.ndim == dimensions or (form.endswith("…") and x.ndim > 1) for x in found)
    if not fits or len({len(x) for x in found}) > 1:
        shapes = " and ".join(str(tuple(x.shape)) for x in found)
        raise UserError(f"{' and '.join(tensors)} must be ({form}) of one N, got {shapes}")
    wide = reduce(torch.promote_types, (x.dtype for x in found), torch.float32)
    return [x.to(wide) for x in found]


def check_same_shape(**tensors: Tensor) -> None:
    """Refuse tensors of unequal shapes."""
    shapes = [tuple(x.shape) for x in tensors.values()]
    if len(set(shapes)) > 1:
        raise UserError(f"{' and '.join(tensors)} must have one shape, got {' and '.join(map(str, shapes))}")


def check_same_channels(**maps: Tensor) -> None:
    """Refuse maps (N, C, …) of unequal C."""
    channels = [x.shape[1] for x in maps.values()]
    if len(set(channels)) > 1:
        raise UserError(f"{' and '.join(maps)} must have equal channels, got {' and '.join(map(str, channels))}")


def inner(a: Tensor, b: Tensor) -> Tensor:
    """All inner products of rows, (…, n, d), (…, m, d) → (…, n, m); autocast would take them in half precision."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.mT


def root(squared: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, where that of `sqrt` is infinite."""
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)


def unit(x: Tensor) -> Tensor:
    """Rows over their L2 norm; a row of zeros stays so, and its gradient small, where F.normalize gives 1e12."""
    length = root(x.square().sum(-1, keepdim=True))
    return x / torch.where(length > 0, length, 1)


def pool_to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps (N, C, H, W), the larger average-pooled to the size of the smaller."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    a, b = (x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (a, b))
    return a, b


def embedding_widths(student: FeatureInfo, teacher: FeatureInfo) -> tuple[int, int]:
    """The widths of both embeddings; a model without a linear head, which has none, is refused."""
    for role, info in (("student", student), ("teacher", teacher)):
        if info.embedding is None:
            raise UserError(f"{info.name} has no linear head whose input could be read; name it, e.g. {role}.head=fc")
    return student.embedding, teacher.embedding


def check_head(info: FeatureInfo, found: Tensor | None = None, expected: Tensor | None = None) -> None:
    """Refuse a model whose head is no linear function of the mean of its last map.

    Its channels tell, or what was `found` from that mean, where the model itself gives the `expected`.
    """
    if found is None:
        differs = info.last_map.channels != info.embedding
    else:
        differs = found.shape != expected.shape or (found - expected).abs().max() > 1e-3 + 1e-2 * expected.abs().max()
    if differs:
        raise UserError(
            f"the head of {info.name} does not read the mean of its last map; name the stage right before its pooling, "
            f"with student.stages=[…] or teacher.stages=[…], or take kd"
        )


def check_pixels(student: FeatureInfo, teacher: FeatureInfo, why: str) -> None:
    """Refuse a model whose last stage has one pixel only; `why` opens the message."""
    for role, info in (("student", student), ("teacher", teacher)):
        last = info.stages[-1] if info.stages else None
        if last is None or last.height * last.width < 2:
            raise UserError(
                f"{why}, and {info.name} ends in {last or 'no map'}; name other stages with {role}.stages=[…], or "
                f"choose strategy=pkt, which reads the embedding"
            )


class StagePairs(Term):
    """A `loss` of the maps of both models' stages, in pairs, summed over them."""

    needs = ("student.stages", "teacher.stages")

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Pair the stages."""
        self.pairs = match_stages(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The sum over the pairs."""
        maps = [(student.stages[i], teacher.stages[j]) for i, j in self.pairs]
        return torch.stack([self.loss(*pair, **self.numbers()) for pair in maps]).sum()


class NeighbouringStages(StagePairs):
    """A loss of two pairs at least, each of equal channels on both sides."""

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Pair the stages; other models are refused."""
        super().connect(student, teacher)
        instead = "choose strategy=attention or strategy=vid, which take any"
        if len(self.pairs) < 2:
            found = f"only {len(self.pairs)} of {student.name} has a partner"
            raise UserError(f"it relates neighbouring stages, and {found}; {instead}")
        for one, other in ((student.stages[i], teacher.stages[j]) for i, j in self.pairs):
            if one.channels != other.channels:
                raise UserError(
                    f"it needs equal channels at every stage, and {student.name} has {one} where {teacher.name} has "
                    f"{other}; {instead}, or a student as wide as the teacher"
                )


class ReadByHead(Term):
    """A term that applies both heads at the places of the last maps, whose means must be what the heads read."""

    needs = tuple(f"{role}.{name}" for role in ("student", "teacher") for name in ("logits", "last_map", "head"))

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Refuse a model whose head cannot read its last map."""
        self.infos = (student, teacher)
        for info in self.infos:
            check_head(info)

    def check_heads(self, student: Outputs, teacher: Outputs) -> None:
        """Refuse, in the trial before the first step (where no dropout comes between), what `check_head` refuses."""
        if not self.training:
            for info, outputs in zip(self.infos, (student, teacher), strict=True):
                logits = F.linear(outputs.last_map.mean((2, 3)), outputs.head.weight, outputs.head.bias)
                check_head(info, logits, outputs.logits)
