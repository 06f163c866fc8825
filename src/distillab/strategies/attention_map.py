"""Attention of a transformer's last layer, and the relations between its values (MiniLM, arXiv 2002.10957)."""

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.hidden import check_mask, mean_of, positions
from distillab.strategies.parts.logits import kl, widened

__all__ = ["attention_kl", "value_relation_kl"]


def attention_kl(s: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL(t ‖ s) of attention, mean over heads and the positions that count (Wang et al., arXiv 2002.10957).

    s, t (N, heads, L, L) are probabilities over the last dimension, 0 where a causal or a padding mask forbids a look:
    those places cost nothing. `mask`, bool (N, L), is True for the looking positions that count; None: all.
    """
    if s.ndim != 4 or s.shape != t.shape:
        raise UserError(f"s and t must be attention (N, heads, L, L), got {tuple(s.shape)} and {tuple(t.shape)}")
    check_mask(mask, (s.shape[0], s.shape[2]))
    s, t = widened(s, t)
    least = torch.finfo(s.dtype).tiny  # log 0 times 0 would be no number
    s, t = (positions(x.transpose(1, 2), mask) for x in (s, t))
    return mean_of((t * (t.clamp(min=least).log() - s.clamp(min=least).log())).sum(-1))


def value_relation_kl(s: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL of the relations between values, softmax(v · vᵀ / √d), teacher's to student's; means as in `attention_kl`.

    Values s (N, heads, L, d), t (N, heads, L, D). Positions that do not count by `mask`, bool (N, L), are related to
    none. One that relates every position to every other has no need of a causal mask (arXiv 2002.10957).
    """
    if s.ndim != 4 or s.shape[:3] != t.shape[:3] or t.ndim != 4:
        given = f"{tuple(s.shape)} and {tuple(t.shape)}"
        raise UserError(f"s and t must be values (N, heads, L, d) of as many heads and positions, got {given}")
    check_mask(mask, (s.shape[0], s.shape[2]))
    s, t = widened(s, t)
    log_q, log_p = (log_relations(values, mask) for values in (s, t))
    return mean_of(positions(kl(log_p, log_q).transpose(1, 2), mask))


def log_relations(values: Tensor, mask: Tensor | None) -> Tensor:
    """log softmax(v · vᵀ / √d) over the positions that count: (N, heads, L, d) → (N, heads, L, L)."""
    if mask is not None:
        values = values.masked_fill(~mask[:, None, :, None], 0)
    scores = values @ values.transpose(-1, -2) / values.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min / 2)
    return scores.log_softmax(-1)
