"""Files the scores of a served teacher in a token cache, block by block."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log

import numpy as np
import torch

from distillab.core.errors import UserError
from distillab.data.text.requests import Piece
from distillab.teachers.cache import TeacherCache
from distillab.teachers.scores import Line, Told, told
from distillab.teachers.shards import SHARD
from distillab.teachers.token_layout import TokenLayout


@dataclass
class Filed:
    """What an import did with requests and blocks."""

    scored: int = 0  # requests whose scores were filed now
    known: int = 0  # requests whose scores had been filed before
    lines_left: int = 0  # requests of blocks that are not complete yet


class Filing:
    """Puts scores back at the positions of their blocks, and publishes blocks of which every piece is there.

    `requests` are all pieces of the training text by their id. What was published stays: the same scores may come again,
    others are refused.
    """

    def __init__(self, cache: TeacherCache, requests: Mapping[str, Piece]) -> None:
        self.cache, self.layout, self.requests = cache, cache.layout, requests
        self.view = cache.view(0)
        self.lacking: dict[int, set[int]] = {}  # of each block that is not there, the starts of the pieces to come
        for piece in requests.values():
            if not self.view.present[piece.block]:
                self.lacking.setdefault(piece.block, set()).add(piece.start)
        self._waiting: dict[int, np.ndarray] = {}
        self.filed = Filed()
        self._empty = nothing_known(self.layout)

    def take_all(self, lines: Iterable[Line]) -> Filed:
        """File all lines; raises UserError for the first that does not fit, when what came before is on the disk."""
        try:
            self._complete(
                np.setdiff1d(np.arange(self.cache.samples), [piece.block for piece in self.requests.values()])
            )
            for line in lines:
                self._take(line)
        finally:
            self._publish()
        self.filed.lines_left = sum(map(len, self.lacking.values()))
        return self.filed

    def first_lacking(self) -> str:
        """The id of a request of which there are no scores."""
        return next(name for name, piece in self.requests.items() if piece.start in self.lacking.get(piece.block, ()))

    def _take(self, line: Line) -> None:
        name = line.row.get("id")
        piece = self.requests.get(name) if isinstance(name, str) else None
        if piece is None:
            raise UserError(
                f"{line.where}: its id {name!r} is none of this text's requests: the text, its split, the tokenizer or the "
                f"block length differ from those that `cache requests` was given; give both the same data.…"
            )
        keep = self.layout.classes if self.layout.top_k is None else self.layout.top_k
        given = self._rounded(told(line, piece.ids, keep=keep, vocabulary=self.layout.classes))
        starts = self.lacking.get(piece.block, set())
        if piece.start not in starts:
            self._check_same(line.where, piece, given)
            self.filed.known += 1
            return
        record = self._waiting.setdefault(piece.block, self._empty.copy())
        for field, values in given.items():
            record[field][0, piece.positions] = values
        starts.remove(piece.start)
        self.filed.scored += 1
        if not starts:
            self._complete(np.array([piece.block]), self._waiting.pop(piece.block))

    def _rounded(self, found: Told) -> dict[str, np.ndarray]:
        fields = self.layout.scored(torch.from_numpy(found.log_p), torch.from_numpy(found.tokens))
        return {name: values.numpy().astype(self._empty[name].dtype) for name, values in fields.items()}

    def _check_same(self, where: str, piece: Piece, given: Mapping[str, np.ndarray]) -> None:
        record = self._waiting.get(piece.block)
        record = self.view.read(np.array([piece.block])) if record is None else record
        if any(not np.array_equal(record[field][0, piece.positions], values) for field, values in given.items()):
            raise UserError(
                f"{where}: other scores of this request are filed already: call the other teacher by another name "
                f"(scheme.teacher=…), or delete {self.view.folder.parent}"
            )

    def _complete(self, blocks: np.ndarray, record: np.ndarray | None = None) -> None:
        """Add blocks of which everything is known; without a record nothing of them is learned."""
        if not len(blocks):
            return
        self.view.add(blocks, np.repeat(self._empty if record is None else record, len(blocks)))
        for block in blocks.tolist():
            self.lacking.pop(block, None)
        first = blocks[0] // SHARD * SHARD
        if self.view.present[first : first + SHARD].all():  # so that no more than a file or two are in memory
            self._publish()

    def _publish(self) -> None:
        self.cache.publish()
        if not self.cache.filling:
            raise UserError(f"the scores find no room in {self.cache.root} (the warning above says why)")


def nothing_known(layout: TokenLayout) -> np.ndarray:
    """One record (1,) in which every token is equally likely, for positions that no loss reads."""
    positions, outputs = layout.positions, layout.classes
    kept = outputs if layout.top_k is None else layout.top_k
    log_p = torch.full((positions, kept), -log(outputs), dtype=torch.float64)
    fields = layout.scored(log_p, torch.arange(kept).expand(positions, kept))
    return layout.pack({name: values[None] for name, values in fields.items()})
