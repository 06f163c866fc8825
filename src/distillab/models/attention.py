"""What the attention of a transformer's layers reads, noted on the way into it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.logit_rows import without_half

BEYOND_PRODUCTS = ("softcap", "s_aux", "position_bias")  # arguments by which scores are more than products


@dataclass(frozen=True)
class Attention:
    """The inputs of one layer's attention; queries and keys know their positions (rotary embedding) already.

    `queries` are (N, H, L, d), `keys` and `values` (N, K, L, …): each of their K heads serves H / K heads of the queries.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    scaling: float  # of a product of query and key
    mask: Tensor  # (N, 1, L, L), bool or added to the scores

    @property
    def heads(self) -> int:
        """The number H of heads that look."""
        return self.queries.shape[1]

    @property
    def seen(self) -> Tensor:
        """Whether the first position may look at the second, bool (N, L, L)."""
        mask = self.mask[:, 0]
        return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2

    @property
    def scores(self) -> Tensor:
        """What the softmax is taken of, but for the mask: (N, H, L, L), in float32 at least."""
        queries, keys = without_half(self.queries), without_half(self._of_all_heads(self.keys))
        return self.scaling * queries @ keys.mT

    @property
    def head_values(self) -> Tensor:
        """The values that each head reads, (N, H, L, …)."""
        return self._of_all_heads(self.values)

    def _of_all_heads(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.heads // x.shape[1], dim=1)


class AttentionTap:
    """A block in which a network of transformers tells `note` of each module whose attention runs, and what that reads.

    It is the call of the attention function that is tapped: fused ones, which show no maps, compute as always. UserError
    in the block for attention whose scores are more than products of queries and keys.
    """

    def __init__(self, net: nn.Module, name: str, note: Callable[[nn.Module, Attention], None]) -> None:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        self.functions, self.kind = ALL_ATTENTION_FUNCTIONS, net.config._attn_implementation
        self.name, self.note = name, note
        self.function = self._noted  # one object: torch.compile would take another for other code

    def __enter__(self) -> Self:
        self.own = self.functions.get(self.kind)  # None for eager: each architecture has its own
        self.functions[self.kind] = self.function
        return self

    def __exit__(self, *_: object) -> None:
        del self.functions[self.kind]
        if self.own is not None and self.functions.get(self.kind) is not self.own:
            self.functions[self.kind] = self.own

    def _noted(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **further: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The attention function that transformers calls, by its names of the arguments."""
        more = [name for name in BEYOND_PRODUCTS if further.get(name) is not None]
        if more or attention_mask is None or attention_mask.ndim != 4 or attention_mask.shape[1] != 1:
            raise UserError(
                f"{self.name} has attention that is not read here ({', '.join(more) or 'another mask'}): choose "
                f"strategy=hidden, which compares the layers' outputs"
            )
        scaling = query.shape[-1] ** -0.5 if further.get("scaling") is None else further["scaling"]
        self.note(module, Attention(query, key, value, scaling, attention_mask))
        compute = self.own or sys.modules[type(module).__module__].eager_attention_forward
        return compute(module, query, key, value, attention_mask, **further)
