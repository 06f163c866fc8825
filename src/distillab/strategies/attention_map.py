"""Attention of a transformer's layers: its scores (TinyBERT), or its distributions and relations (MiniLM, MiniLMv2)."""

import torch
from torch import Tensor

from distillab.core.allowed import Choice
from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.models.attention import Attention
from distillab.models.feature_info import FeatureInfo, match_stages
from distillab.strategies.base import Fields, Outputs, Scheduled, Term, check_whole
from distillab.strategies.hidden import check_mask, mean_of, positions
from distillab.strategies.parts.logits import LEAST, kl, widened

__all__ = ["attention_kl", "attention_mse", "relation_kl"]

MATCH = Choice("relations", "scores")


def attention_mse(s: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of attention scores before the softmax (Jiao et al., arXiv 1909.10351).

    Scores s, t (N, heads, L, L); the mean is over the positions that look, and for each over heads and what it looks at.
    `mask`, bool (N, L, L), is True where the first position looks at the second; one that looks nowhere does not count.
    None: all look at all. 0 where none looks.
    """
    _check_scores(s, t, mask)
    return mean_of(mse_rows(s, t, mask))


def attention_kl(s: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL(t ‖ s) of attention, mean over the positions that look and the heads (Wang et al., arXiv 2002.10957).

    Scores s, t (N, heads, L, L) before the softmax (or logarithms of what comes out of it), and `mask` as in
    `attention_mse`.
    """
    _check_scores(s, t, mask)
    return mean_of(kl_rows(s, t, mask))


def relation_kl(s: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL of the relations between vectors, softmax(v · vᵀ / √d), teacher's to student's; means as in `attention_kl`.

    Values, queries or keys s (N, heads, L, d), t (N, heads, L, D), and `mask` as in `attention_mse`: a position is related
    to those that it looks at (Wang et al., arXiv 2002.10957; of queries and keys arXiv 2012.15828).
    """
    if s.ndim != 4 or s.shape[:3] != t.shape[:3] or t.ndim != 4:
        given = f"{tuple(s.shape)} and {tuple(t.shape)}"
        raise UserError(f"s and t must be vectors (N, heads, L, d) of as many heads and positions, got {given}")
    check_mask(mask, (s.shape[0], s.shape[2], s.shape[2]))
    return mean_of(relation_rows(s, t, mask))


def mse_rows(s: Tensor, t: Tensor, mask: Tensor | None) -> Tensor:
    """The mean squared difference of scores at each position that looks, (R,)."""
    s, t, seen = _looking(s, t, mask)
    squares = (s - t).masked_fill(~seen, 0).square()
    return (squares.sum(-1) / seen.sum(-1)).mean(-1)


def kl_rows(s: Tensor, t: Tensor, mask: Tensor | None) -> Tensor:
    """KL of what the softmax makes of scores at each position that looks, mean over heads, (R,)."""
    s, t, seen = _looking(s, t, mask)
    log_q, log_p = (x.masked_fill(~seen, LEAST).log_softmax(-1) for x in (s, t))
    return kl(log_p, log_q).mean(-1)


def relation_rows(s: Tensor, t: Tensor, mask: Tensor | None) -> Tensor:
    """The same of the products of vectors."""
    s, t = widened(s, t)
    if mask is not None:  # 0 times what an unused position holds may be no number
        unused = ~(mask.any(1) | mask.any(2))
        s, t = (x.masked_fill(unused[:, None, :, None], 0) for x in (s, t))
    products = (x @ x.mT / x.shape[-1] ** 0.5 for x in (s, t))
    return kl_rows(*products, mask)


def _check_scores(s: Tensor, t: Tensor, mask: Tensor | None) -> None:
    if s.ndim != 4 or s.shape != t.shape:
        raise UserError(f"s and t must be scores (N, heads, L, L), got {tuple(s.shape)} and {tuple(t.shape)}")
    check_mask(mask, (s.shape[0], *s.shape[2:]))


def _looking(s: Tensor, t: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The scores (R, heads, L) of each position that looks, and where it does, (R, 1, L)."""
    s, t = widened(s, t)
    if mask is None:
        mask = torch.ones(len(s), *s.shape[2:], dtype=torch.bool, device=s.device)
    looks = mask.any(-1)
    s, t = (positions(x.transpose(1, 2), looks) for x in (s, t))
    return s, t, mask[looks][:, None]


class AttentionMap(Term):
    """Attention as the teacher's, at the positions that have a label, over what they see of their own document.

    `match=relations`: `attention_kl` and `relation_kl` of the values, of the last layers (MiniLM); with `relation_heads`,
    `relation_kl` of queries, keys and values that are cut anew into so many heads, which takes any two models (MiniLMv2).
    `match=scores`: the sum of `attention_mse` over pairs of layers (TinyBERT). UserError where heads are compared one by
    one, and their numbers differ.
    """

    needs = ("student.attentions", "teacher.attentions", "batch.labels")
    rowwise = True
    soft_labels = True  # of labels it reads only which positions have none

    weight: Scheduled = 0.5
    match: str = "relations"
    relation_heads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        MATCH.check(self.match, "match", "relations")
        if self.relation_heads is not None:
            check_whole(relation_heads=self.relation_heads)
            if self.match == "scores":
                raise UserError("relation_heads are those of match=relations; match=scores takes relation_heads=null")

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Pair the layers."""
        self.names = (student.name, teacher.name)
        self.pairs = match_stages(student, teacher) if self.match == "scores" else [(-1, -1)]

    def feature_rows(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The sum over the pairs, and over what is matched of each."""
        counts = (batch.labels != IGNORED)[:, :, None]
        losses = []
        for s, t in ((student.attentions[i], teacher.attentions[j]) for i, j in self.pairs):
            mask = s.seen & counts
            if self.relation_heads is not None:
                losses += [relation_rows(*vectors, mask) for vectors in self._cut(s, t)]
                continue
            self._check_heads(s, t)
            if self.match == "scores":
                losses.append(mse_rows(s.scores, t.scores, mask))
            else:
                losses += [kl_rows(s.scores, t.scores, mask), relation_rows(s.head_values, t.head_values, mask)]
        return torch.stack(losses).sum(0)

    def _cut(self, s: Attention, t: Attention) -> list[tuple[Tensor, Tensor]]:
        """Queries, keys and values of both, their heads joined and cut into `relation_heads`."""
        found = [(of.queries, of.keys, of.values) for of in (s, t)]
        for name, width in ((name, _width(x)) for name, each in zip(self.names, found, strict=True) for x in each):
            if width % self.relation_heads:
                raise UserError(
                    f"relation_heads must divide {name}'s {width} channels of attention, got {self.relation_heads}; "
                    f"{self._common(s, t)} does"
                )
        shared = [
            [x.transpose(1, 2).flatten(2).unflatten(2, (self.relation_heads, -1)) for x in each] for each in found
        ]
        return [(a.transpose(1, 2), b.transpose(1, 2)) for a, b in zip(*shared, strict=True)]

    def _check_heads(self, s: Attention, t: Attention) -> None:
        if s.heads != t.heads:
            raise UserError(
                f"match={self.match} compares head by head, and {self.names[0]} has {s.heads} heads where {self.names[1]} "
                f"has {t.heads}: strategy.attention_map.match=relations "
                f"strategy.attention_map.relation_heads={self._common(s, t)}"
            )

    def _common(self, s: Attention, t: Attention) -> int:
        """The largest number of heads, up to the models' own, that all widths divide into."""
        widths = [_width(x) for of in (s, t) for x in (of.queries, of.keys, of.values)]
        return next(n for n in range(max(s.heads, t.heads), 0, -1) if not any(width % n for width in widths))


def _width(x: Tensor) -> int:
    """The channels of all heads (N, heads, L, d) together."""
    return x.shape[1] * x.shape[3]
