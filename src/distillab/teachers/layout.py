"""The disk format of one sample's teacher outputs: all logits, or the largest few and what the rest share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from distillab.core.allowed import Range
from distillab.data.batch import sent


@dataclass(frozen=True)
class Layout:
    """The disk format of one sample's outputs; UserError where top_k is no whole number, or leaves no class over."""

    classes: int  # logits per sample
    embedding: int | None = None  # numbers of the embedding; None stores none
    dtype: str = "float32"  # or float16
    top_k: int | None = None  # store the k largest log-probabilities, and the mean of the others; None: all logits

    def __post_init__(self) -> None:
        Range(1, high=self.classes - 1, whole=True, null=True).check(self.top_k, "cache.top_k")

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

    def bytes(self, samples: int) -> int:
        """Disk size of a view of so many samples: the records, and one bit for each that says whether it is there."""
        return samples * self.record.itemsize + samples // 8

    def decode(self, records: np.ndarray, device: torch.device | str = "cpu") -> SimpleNamespace:
        """The outputs of records in float32; with `top_k` the other classes share the rest equally."""
        return self.widen(self.unpack(records, torch.device(device)))

    def narrow(self, outputs: SimpleNamespace, index: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (N, classes) and the embedding (N, d) as the fields of N records, rounded, on the same device.

        `index` (N,) are the samples' places in their split, for a layout that draws.
        """
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
        """The outputs of the fields of N records, in float32."""
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
        """N records of fields in the host's memory."""
        records = np.zeros(len(next(iter(fields.values()))), self.record)
        for name, values in fields.items():
            records[name] = values.numpy()
        return records

    def unpack(self, records: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """The fields of records on a device; the host does not wait for the copy."""
        fields = {name: np.ascontiguousarray(records[name]) for name in self.record.names}
        if "place" in fields:
            fields["place"] = fields["place"].astype(np.int64)
        return {name: sent(torch.from_numpy(values), device) for name, values in fields.items()}
