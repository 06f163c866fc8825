"""What a served teacher is asked for: each document's part of each training block, as token ids."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distillab.core.files import replacing
from distillab.data.batch import IGNORED
from distillab.data.collection import fingerprint
from distillab.data.text.blocks import PADDING, Blocks
from distillab.data.text.datamodule import TextData


@dataclass(frozen=True)
class Piece:
    """A document's part of a block: the positions from `start` on, and the `ids` (T,) that a server scores.

    The ids are those of the part and, where its last position has a label, that label. So a server, which tells of each
    token how likely it was after those before it, tells what follows the first T - 1 positions.
    """

    block: int  # its place in the training split
    start: int
    ids: np.ndarray

    @property
    def positions(self) -> slice:
        """Those of the block that a server tells something of."""
        return slice(self.start, self.start + len(self.ids) - 1)


def pieces(blocks: Blocks) -> Iterator[Piece]:
    """The pieces of blocks, one behind the other, without those in which no token is learned."""
    columns = (getattr(blocks, name).numpy() for name in ("ids", "labels", "documents"))
    for block, (ids, labels, documents) in enumerate(zip(*columns, strict=True)):
        cuts = np.flatnonzero(documents[1:] != documents[:-1]) + 1
        for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
            learned = labels[start:end] != IGNORED
            if documents[start] == PADDING or not learned.any():
                continue
            following = labels[end - 1 : end][learned[-1:]]
            yield Piece(block, int(start), np.concatenate([ids[start:end], following]))


def scored(data: TextData) -> str:
    """Hash of the training blocks: all that a server is asked, whatever text validates or tests."""
    return fingerprint({}, data.training_blocks.tokens)


def numbered(data: TextData) -> dict[str, Piece]:
    """The pieces of the training text by the id of their request, in order."""
    mark = scored(data)[:12]
    return {f"{mark}-{piece.block}-{piece.start}": piece for piece in pieces(data.training_blocks)}


def write_requests(data: TextData, path: Path) -> tuple[int, int, int]:
    """Write one line of JSON, `id` and `token_ids`, for each piece; the number of requests, their tokens, the longest."""
    lengths = []
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, piece in numbered(data).items():
            file.write(json.dumps({"id": name, "token_ids": piece.ids.tolist()}) + "\n")
            lengths.append(len(piece.ids))
    return len(lengths), sum(lengths), max(lengths)
