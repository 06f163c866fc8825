"""The disk format of a block's teacher outputs: for each position all logits, the largest few, or random draws."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.data.seeded import Stream, uniform
from distillab.models.logit_rows import NOTHING, SparseLogits, dense, drawn
from distillab.teachers.layout import Layout


@dataclass(frozen=True)
class TokenLayout(Layout):
    """The disk format of one block's outputs; UserError where a number does not suit the vocabulary.

    With `top_k` the k largest log-probabilities are kept, and the logarithm of Σ p^(1/T) over the others for each of the
    `temperatures`; with `draws` so many random tokens of the teacher's distribution, which stand for it without bias
    (arXiv 2503.16870). `convention` is that of `SparseLogits`.
    """

    positions: int = 1  # of a block
    draws: int | None = None
    temperatures: tuple[float, ...] = (1.0,)
    convention: str = "bucket"

    def __post_init__(self) -> None:
        super().__post_init__()
        Range(1, high=65535, whole=True, null=True).check(self.draws, "cache.draws")
        if self.top_k is not None and self.draws is not None:
            raise UserError(
                "cache.top_k and cache.draws are two ways to keep a part: cache.draws=null or cache.top_k=null"
            )
        if self.draws is not None and self.temperatures != (1.0,):
            raise UserError("tokens are drawn at temperature 1: cache.temperatures=[1.0], or cache.draws=null")

    @property
    def record(self) -> np.dtype:
        """One block's bytes."""
        place = next(t for t in ("uint8", "uint16", "uint32") if self.classes - 1 <= np.iinfo(t).max)
        if self.draws is not None:
            return np.dtype([("drawn", place, (self.positions, self.draws))])
        if self.top_k is None:
            return np.dtype([("logits", self.dtype, (self.positions, self.classes))])
        kept = (self.positions, self.top_k)
        tails = (self.positions, len(self.temperatures))
        return np.dtype([("top", self.dtype, kept), ("place", place, kept), ("tail", self.dtype, tails)])

    def narrow(self, outputs: SimpleNamespace, index: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (N, L, V) as the fields of N records, rounded, on the same device; block by block, as V may be large."""
        found: list[dict[str, Tensor]] = []
        for place in range(len(outputs.logits)):
            logits = dense(outputs.logits[place : place + 1]).detach()
            found.append(self._one(logits, None if index is None else index[place]))
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    def _one(self, logits: Tensor, index: Tensor | None) -> dict[str, Tensor]:
        if self.draws is not None:
            return {"drawn": self._drawn(logits, index)}
        if self.top_k is None:
            return {"logits": self._round(logits)}
        log_p = logits.log_softmax(-1)
        top, place = log_p.topk(self.top_k)
        others = log_p.scatter(-1, place, -torch.inf)
        tails = [(others / t).logsumexp(-1) for t in self.temperatures]
        return {"top": self._round(top), "place": place, "tail": self._round(torch.stack(tails, -1))}

    def scored(self, log_p: Tensor, place: Tensor) -> dict[str, Tensor]:
        """The fields of positions (l,) of which the `top_k` largest log-probabilities (l, k) and their outputs are known.

        At temperature 1, where the others hold what is left of 1. Without `top_k` all are known, k = V.
        """
        if self.top_k is None:
            return {"logits": self._round(torch.zeros_like(log_p).scatter(-1, place, log_p))}
        others = torch.log1p(-log_p.exp().sum(-1, keepdim=True).clamp(max=1.0))
        return {"top": self._round(log_p), "place": place, "tail": self._round(others)}

    def _drawn(self, logits: Tensor, index: Tensor | None) -> Tensor:
        """Tokens (1, L, draws) by the inverse of the distribution function, ascending, a function of the block's number."""
        block = 0 if index is None else int(index)
        place = block * self.positions + torch.arange(self.positions)
        numbers = [uniform(0, draw, place, Stream.TOKEN) for draw in range(self.draws)]
        return drawn(logits, torch.stack(numbers, -1).to(logits.device)[None]).sort(-1).values

    def widen(self, fields: dict[str, Tensor]) -> SimpleNamespace:
        """The outputs of the fields of N records, in float32."""
        if self.top_k is None and self.draws is None:
            return SimpleNamespace(logits=fields["logits"].float())
        about = {"temperatures": self.temperatures, "convention": self.convention, "outputs": self.classes}
        if self.draws is None:
            sparse = SparseLogits(fields["top"].float(), fields["place"], fields["tail"].float(), **about)
            return SimpleNamespace(logits=sparse)
        place, counts = counted(fields["drawn"])
        top = torch.where(counts > 0, counts.clamp(min=1).float().log() - np.log(self.draws), NOTHING)
        tail = torch.full_like(top[..., :1], NOTHING)
        about["convention"] = "renormalise"  # nothing is left over: the draws are the whole distribution
        return SimpleNamespace(logits=SparseLogits(top, place, tail, **about))

    def unpack(self, records: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """The fields of records on a device."""
        fields = {name: np.ascontiguousarray(records[name]) for name in self.record.names}
        for name in {"place", "drawn"} & fields.keys():
            fields[name] = fields[name].astype(np.int64)
        return {name: torch.from_numpy(values).to(device) for name, values in fields.items()}

    @property
    def bytes_per_token(self) -> float:
        """Bytes of a position."""
        return self.record.itemsize / self.positions


def counted(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The different ones of ascending tokens (…, n), (…, n), and how often each was drawn; what is left over is 0."""
    first = torch.ones_like(drawn, dtype=torch.bool)
    first[..., 1:] = drawn[..., 1:] != drawn[..., :-1]
    slot = first.long().cumsum(-1) - 1
    counts = torch.zeros_like(drawn).scatter_add(-1, slot, torch.ones_like(drawn))
    return torch.zeros_like(drawn).scatter(-1, slot, drawn), counts
