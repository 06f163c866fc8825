"""Which positions of a packed block a causal language model may look at: of the same document, and as far as its layers look."""

from typing import Any

import torch
from torch import Tensor

from distillab.core.errors import UserError

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"  # kinds of layers in a config
WITHOUT_MASK = ("bloom", "mpt", "mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm", "recurrent_gemma")  # architectures

Mask = Tensor | dict[str, Tensor]  # of all layers, or by their kind


def check_packable(config: Any, name: str) -> None:
    """Raise UserError for a network that would read on from one document of a block into the next."""
    kind, layers = getattr(config, "model_type", ""), getattr(config, "layer_types", None) or ()
    other = sorted({str(one) for one in layers} - {FULL, SLIDING, CHUNKED})
    if kind in WITHOUT_MASK or getattr(config, "alibi", False) or other:
        what = f"layers of the kind {', '.join(other)}" if other else f"the architecture {kind}"
        raise UserError(f"{name}: {what} cannot keep the documents of a block apart; choose a model of attention alone")


def packed(documents: Tensor, dtype: torch.dtype, config: Any = None) -> tuple[Mask, Tensor]:
    """The additive attention mask (N, 1, L, L) and the positions (N, L) of documents (N, L) packed into blocks.

    The config of a network says how far its layers look; where they differ there is a mask for each kind of layer. Padding
    sees itself alone, so that no row of the softmax is empty.
    """
    length = documents.shape[1]
    place = torch.arange(length, device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    positions = place - torch.where(begins, place, 0).cummax(1).values
    seen = (documents[:, :, None] == documents[:, None, :]) & (place[:, None] >= place[None, :])
    window, chunk = (getattr(config, key, None) for key in ("sliding_window", "attention_chunk_size"))
    kinds = getattr(config, "layer_types", None)
    masks = {FULL: seen}
    if window is not None:
        masks[SLIDING] = seen & (place[:, None] - place[None, :] < window)
    if chunk is not None:
        number = positions // chunk
        masks[CHUNKED] = seen & (number[:, :, None] == number[:, None, :])
    if not kinds:  # all layers alike
        return _additive(masks.get(SLIDING, seen), dtype), positions
    used = {kind: _additive(masks.get(kind, seen), dtype) for kind in dict.fromkeys(kinds)}
    return (used[FULL] if set(used) == {FULL} else used), positions


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def cut(mask: Mask, rows: slice, columns: slice) -> Mask:
    """The part of a mask of these positions that look, and of those that they look at."""
    if isinstance(mask, dict):
        return {kind: cut(one, rows, columns) for kind, one in mask.items()}
    return mask[:, :, rows, columns]
