"""Blocks of one text in the tokens of two tokenizers, and which of their positions go together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.data.batch import IGNORED, Batch
from distillab.data.text.blocks import PADDING, PARTS, Blocks, Tokens, followed, laid, pack


@dataclass(frozen=True)
class PairedBlocks(Blocks):
    """The student's blocks (M, L), and the same text in the teacher's tokens, block by block (M, K).

    A token of the teacher stands in the block in which the student has read its last character. `pairs` (M, L, ways) is for
    each of `ALIGNMENTS` the teacher's position that goes with one of the student, or -1; both have labels.
    """

    taught: Blocks
    pairs: Tensor

    def batch(self, index: Tensor, number: int) -> Batch:
        """The blocks `index` (n,), and what the teacher reads in their place."""
        found, taught = super().batch(index, number), self.taught.batch(index, number)
        return replace(found, targets=found.targets | {"pairs": self.pairs[index].long()}, teacher_inputs=taught.inputs)

    def chosen(self, rows: Tensor) -> Self:
        """Some of the blocks."""
        own = {name: getattr(self, name)[rows] for name in ("ids", "labels", "documents", "sizes", "pairs")}
        return type(self)(**own, taught=self.taught.chosen(rows))

    def cut(self, length: int) -> Self:
        """The first positions of every block; the teacher's stay."""
        return replace(super().cut(length), pairs=self.pairs[:, :length])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The blocks of several parts, one behind the other."""
        own = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("ids", "labels", "documents")}
        own |= {name: torch.cat([getattr(part, name) for part in parts]) for name in ("sizes", "pairs")}
        width = max(part.taught.ids.shape[1] for part in parts)
        return cls(**own, taught=Blocks.joined([_widened(part.taught, width) for part in parts]))


def _widened(blocks: Blocks, width: int) -> Blocks:
    """Padded to so many positions."""
    padding = {"ids": 0, "labels": IGNORED, "documents": PADDING, "sizes": 0}
    more = (0, width - blocks.ids.shape[1])
    return Blocks(**{name: F.pad(getattr(blocks, name), more, value=value) for name, value in padding.items()})


def pack_paired(own: Sequence[Tokens], other: Sequence[Tokens], length: int) -> PairedBlocks:
    """Blocks of `length` positions of the documents in `own` tokens, with the same text in the `other` tokens.

    Raises UserError for conversations: each tokenizer writes them in a template of its own.
    """
    if any(each.reached is None for each in own):
        raise UserError(
            "data: conversations differ in the chat templates of two tokenizers, so that no positions go together: plain "
            "text, or one tokenizer, or text that the teacher writes (scripts/generate.py chat=true, then data=synthetic "
            "strategy=none)"
        )
    mine, theirs = _Stream.of(own), _Stream.of(other)
    blocks = pack(own, length)
    at = np.arange(len(mine.reached))
    block = np.searchsorted(mine.reached, theirs.reached) // length
    place = np.arange(len(block)) - np.searchsorted(block, block)
    width = int(place.max()) + 1
    taught = laid(other, block * width + place, (len(blocks), width))
    found = np.full((blocks.ids.numel(), 2), -1, np.int64)
    ways = (_same_text(mine, theirs), _same_place(mine, theirs, at // length, block))
    for way, partner in enumerate(ways):
        partner = np.where(partner >= 0, partner, 0), partner >= 0
        both = partner[1] & mine.labelled & theirs.labelled[partner[0]]
        found[: len(at), way] = np.where(both, place[partner[0]], -1)
    pairs = torch.from_numpy(found.reshape(len(blocks), length, 2)).to(torch.int32)
    return PairedBlocks(blocks.ids, blocks.labels, blocks.documents, blocks.sizes, taught, pairs)


@dataclass(frozen=True)
class _Stream:
    """All documents' tokens (T,), one behind the other: how far all text is read behind each, its document, its label."""

    reached: np.ndarray
    document: np.ndarray
    labelled: np.ndarray

    @classmethod
    def of(cls, documents: Sequence[Tokens]) -> Self:
        # A document is read to its end by the last token of either tokenizer: the sums are the same.
        before = np.cumsum([0, *(each.reached[-1] + PARTS for each in documents)])[:-1]
        reached = np.concatenate([each.reached + start for each, start in zip(documents, before, strict=True)])
        document = np.repeat(np.arange(len(documents)), [len(each.ids) for each in documents])
        return cls(reached, document, followed(documents))


def _same_text(mine: _Stream, theirs: _Stream) -> np.ndarray:
    """For each token (T,) the other one behind which the same whole characters are read, or -1."""
    partner = np.searchsorted(theirs.reached, mine.reached).clip(max=len(theirs.reached) - 1)
    same = (theirs.reached[partner] == mine.reached) & (mine.reached % PARTS == 0)
    return np.where(same, partner, -1)


def _same_place(mine: _Stream, theirs: _Stream, block: np.ndarray, other_block: np.ndarray) -> np.ndarray:
    """For each token (T,), in its block, the other one with the same place in the same document and block, or -1."""
    many = int(mine.document[-1]) + 1
    piece, other = block * many + mine.document, other_block * many + theirs.document
    place = np.arange(len(piece)) - np.searchsorted(piece, piece)
    partner = np.searchsorted(other, piece) + place
    inside = partner.clip(max=len(other) - 1)
    return np.where((partner < len(other)) & (other[inside] == piece), inside, -1)
