"""How one sample's teacher outputs lie on disk: all logits, or the largest few and what the rest share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from distillab.core.errors import UserError


@dataclass(frozen=True)
class Layout:
    """How one sample's outputs lie on disk.

    Attributes:
        classes: logits per sample.
        embedding: numbers of the embedding; None keeps none.
        dtype: float32 or float16.
        top_k: keep the largest k log-probabilities and what is left over for the others; None keeps all logits.

    Raises:
        UserError: another dtype, or a top_k that is no whole number or leaves no class over.
    """

    classes: int
    embedding: int | None = None
    dtype: str = "float32"
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise UserError(f'cache.dtype must be float32 or float16, got "{self.dtype}"')
        if self.top_k is None:
            return
        if type(self.top_k) is not int or not 1 <= self.top_k < self.classes:
            raise UserError(
                f"cache.top_k must be a whole number from 1 to {self.classes - 1} (all classes but one), or null for "
                f"all, got {self.top_k}"
            )

    @property
    def record(self) -> np.dtype:
        """One sample's bytes."""
        if self.top_k is None:
            fields: list[tuple] = [("logits", self.dtype, (self.classes,))]
        else:
            place = next(t for t in ("uint8", "uint16", "uint32") if self.classes - 1 <= np.iinfo(t).max)
            fields = [("top", self.dtype, (self.top_k,)), ("rest", self.dtype), ("place", place, (self.top_k,))]
        if self.embedding is not None:
            fields.append(("embedding", self.dtype, (self.embedding,)))
        return np.dtype(fields)

    def encode(self, outputs: SimpleNamespace) -> np.ndarray:
        """Logits (N, classes) and, where kept, the embedding (N, d), as N records."""
        return self.pack(self.narrow(outputs))

    def bytes(self, samples: int) -> int:
        """What a view of so many samples takes on disk: the records, and a bit for each that says whether it is there."""
        return samples * self.record.itemsize + samples // 8

    def decode(self, records: np.ndarray, device: torch.device | str = "cpu") -> SimpleNamespace:
        """The outputs that records hold, in float32; with `top_k` the other classes share what is left equally."""
        return self.widen(self.unpack(records, torch.device(device)))

    def narrow(self, outputs: SimpleNamespace) -> dict[str, Tensor]:
        """The outputs as the fields of N records, rounded as they are stored; they stay on their device."""
        logits = outputs.logits.detach().float()
        if self.top_k is None:
            fields = {"logits": self._round(logits)}
        else:
            top, place = logits.log_softmax(-1).topk(self.top_k)
            others = logits.scatter(-1, place, -torch.inf).logsumexp(-1) - logits.logsumexp(-1)
            rest = others - math.log(self.classes - self.top_k)
            fields = {"top": self._round(top), "rest": self._round(rest), "place": place}
        if self.embedding is not None:
            fields["embedding"] = self._round(outputs.embedding.detach().float())
        return fields

    def _round(self, values: Tensor) -> Tensor:
        dtype = getattr(torch, self.dtype)
        most = torch.finfo(dtype).max  # float16 ends at 65504; infinity would be no logit
        return values.clamp(-most, most).to(dtype)

    def widen(self, fields: Mapping[str, Tensor]) -> SimpleNamespace:
        """The outputs in float32 that the fields of N records stand for."""
        found = SimpleNamespace()
        if self.top_k is None:
            found.logits = fields["logits"].float()
        else:
            logits = fields["rest"].float()[:, None].expand(-1, self.classes)
            found.logits = logits.scatter(-1, fields["place"], fields["top"].float())
        if self.embedding is not None:
            found.embedding = fields["embedding"].float()
        return found

    def pack(self, fields: Mapping[str, Tensor]) -> np.ndarray:
        """N records of fields that lie on the host."""
        records = np.zeros(len(next(iter(fields.values()))), self.record)
        for name, values in fields.items():
            records[name] = values.numpy()
        return records

    def unpack(self, records: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """The fields of records, on a device; the host does not wait until they are there."""
        fields = {}
        for name in self.record.names:
            values = np.ascontiguousarray(records[name])
            fields[name] = _sent(torch.from_numpy(values.astype(np.int64) if name == "place" else values), device)
        return fields


def _sent(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)  # CUDA waits for all its work before it reads other memory
