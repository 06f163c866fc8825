"""Divergences between the next-token distributions of two language models, over the tokens that a mask keeps."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.strategies.kd import kd_rows
from distillab.strategies.parts.logits import check_positive, kl, widened

__all__ = ["forward_kl", "jsd", "reverse_kl", "skew_kl", "tvd"]


def kept(s: Tensor, t: Tensor, mask: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """The checked logits of the tokens that the mask keeps."""
    if s.ndim != 2 or s.shape != t.shape:
        raise UserError(f"s and t must be logits (N, V) of one shape, got {tuple(s.shape)} and {tuple(t.shape)}")
    check_positive(temperature=temperature)
    if mask is None:
        return s, t
    if mask.dtype != torch.bool or mask.shape != s.shape[:1]:
        raise UserError(f"mask must be bool ({len(s)},), got {mask.dtype} {tuple(mask.shape)}")
    # Chosen, not multiplied by 0: the logits of a padding token may be anything.
    return s[mask], t[mask]


def log_probabilities(s: Tensor, t: Tensor, mask: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """log q of the student and log p of the teacher, who gets no gradient, for the kept tokens in float32 or wider."""
    s, t = kept(s, t, mask, temperature)
    s, t = widened(s, t)
    return F.log_softmax(s / temperature, dim=-1), F.log_softmax(t / temperature, dim=-1)


def mean(rows: Tensor) -> Tensor:
    """The mean over tokens, 0 of none."""
    return rows.sum() / max(len(rows), 1)


def log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """log(share · a + (1 − share) · b), for shares between 0 and 1."""
    # torch.logaddexp says the same, but its second derivative overflows where a and b are far apart.
    return torch.stack([log_a + math.log(share), log_b + math.log1p(-share)]).logsumexp(0)


def forward_kl(s: Tensor, t: Tensor, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """T² · KL(p ‖ q), summed over the vocabulary, mean over the kept tokens (arXiv 1503.02531); `kd` of those.

    Logits s, t (N, V), q = softmax(s / T), p = softmax(t / T), T > 0; the mask, bool (N,), is True for the tokens that
    count; None for all. 0 with gradient 0 where no token is kept.
    """
    s, t = kept(s, t, mask, temperature)
    return mean(kd_rows(s, t, temperature))


def reverse_kl(s: Tensor, t: Tensor, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """T² · KL(q ‖ p), mean over the kept tokens; arguments are those of `forward_kl` (MiniLLM, arXiv 2306.08543)."""
    log_q, log_p = log_probabilities(s, t, mask, temperature)
    return mean(temperature**2 * kl(log_q, log_p))


def jsd(s: Tensor, t: Tensor, mask: Tensor | None = None, temperature: float = 1.0, beta: float = 0.5) -> Tensor:
    """T² · (β · KL(p ‖ m) + (1 − β) · KL(q ‖ m)), m = β · p + (1 − β) · q, mean over kept tokens (arXiv 2306.13649).

    Arguments are those of `forward_kl`; β, the teacher's share, lies from 0 to 1. The formula is 0 at both ends, so 0
    stands for `forward_kl` and 1 for `reverse_kl`, as in the literature.
    """
    if not 0 <= beta <= 1:
        raise UserError(f"beta must lie from 0 to 1, got {beta}")
    if beta in (0, 1):
        return (reverse_kl if beta else forward_kl)(s, t, mask, temperature)
    log_q, log_p = log_probabilities(s, t, mask, temperature)
    log_m = log_mixture(log_p, log_q, beta)
    return mean(temperature**2 * (beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)))


def skew_kl(s: Tensor, t: Tensor, mask: Tensor | None = None, temperature: float = 1.0, alpha: float = 0.1) -> Tensor:
    """T² · KL(p ‖ α · p + (1 − α) · q), mean over the kept tokens (DistiLLM, arXiv 2402.03898).

    Arguments are those of `forward_kl`; α, the teacher's share, lies from 0 (`forward_kl`) to below 1.
    """
    if not 0 <= alpha < 1:
        raise UserError(f"alpha must lie from 0 to below 1, got {alpha}")
    if alpha == 0:
        return forward_kl(s, t, mask, temperature)
    log_q, log_p = log_probabilities(s, t, mask, temperature)
    return mean(temperature**2 * kl(log_p, log_mixture(log_p, log_q, alpha)))


def tvd(s: Tensor, t: Tensor, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """T² · ½ · Σ |p − q|, mean over the kept tokens, arguments of `forward_kl` (f-DISTILL, arXiv 2307.15190)."""
    log_q, log_p = log_probabilities(s, t, mask, temperature)
    return mean(temperature**2 * 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1))
