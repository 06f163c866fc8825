"""How one sample's teacher outputs lie on disk: all logits, or the largest few and what the rest share."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from distillab.errors import UserError


@dataclass(frozen=True)
class Layout:
    """How one sample's outputs lie on disk.

    Attributes:
        classes: logits per sample.
        embedding: numbers of the embedding; None keeps none.
        dtype: float32 or float16.
        top_k: keep the largest k log-probabilities and what is left over for the others; None keeps all logits.

    Raises:
        UserError: another dtype, or a top_k that leaves no class over.
    """

    classes: int
    embedding: int | None = None
    dtype: str = "float32"
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise UserError(f'cache.dtype must be float32 or float16, got "{self.dtype}"')
        if self.top_k is not None and not 1 <= self.top_k < self.classes:
            raise UserError(
                f"cache.top_k must lie from 1 to {self.classes - 1} (all classes but one), got {self.top_k}"
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
        logits = outputs.logits.detach().float()
        records = np.zeros(len(logits), self.record)
        if self.top_k is None:
            records["logits"] = self._narrow(logits)
        else:
            top, place = logits.log_softmax(-1).topk(self.top_k)
            others = logits.scatter(-1, place, -torch.inf).logsumexp(-1) - logits.logsumexp(-1)
            records["top"], records["place"] = self._narrow(top), place.cpu().numpy()
            records["rest"] = self._narrow(others - np.log(self.classes - self.top_k))
        if self.embedding is not None:
            records["embedding"] = self._narrow(outputs.embedding.detach().float())
        return records

    def _narrow(self, values: Tensor) -> np.ndarray:
        most = np.finfo(self.dtype).max  # float16 ends at 65504; infinity would be no logit
        return values.clamp(-float(most), float(most)).cpu().numpy().astype(self.dtype)

    def decode(self, records: np.ndarray, device: torch.device | str = "cpu") -> SimpleNamespace:
        """The outputs that records hold, in float32; with `top_k` the other classes share what is left equally."""

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(records[name]).astype(np.float32)).to(device)

        found = SimpleNamespace()
        if self.top_k is None:
            found.logits = tensor("logits")
        else:
            place = torch.from_numpy(records["place"].astype(np.int64)).to(device)
            logits = tensor("rest")[:, None].expand(-1, self.classes)
            found.logits = logits.scatter(-1, place, tensor("top"))
        if self.embedding is not None:
            found.embedding = tensor("embedding")
        return found
