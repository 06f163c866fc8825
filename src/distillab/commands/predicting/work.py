"""What a run's networks are asked, of images or of texts: rows for files, by one network or by two side by side."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from distillab.commands.predicting import images, texts
from distillab.commands.predicting.networks import Network, RunNetworks
from distillab.commands.predicting.rows import Row
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.data.images.folder import EXTENSIONS

TOKENS = 32  # of a continuation, where no number is given


class Asked(Protocol):
    """What a person wants to know."""

    teacher: bool
    batch_size: int
    top: int | None
    tokens: int | None


@dataclass(frozen=True)
class Work:
    """How the files of a run are predicted; `rows` gives for each input its row, or why there is none."""

    unit: str  # what an input is called, in the singular
    endings: tuple[str, ...]  # of the files that are read in folders
    columns: Sequence[str]
    rows: Callable[[Sequence[str]], Iterator[tuple[str, Row | None]]]
    counted: bool  # whether a file is one input

    def total(self, files: Sequence[str]) -> int | None:
        """How many inputs the files hold; None where that is not known."""
        return len(files) if self.counted else None


def work_of(run: RunNetworks, asked: Asked) -> Work:
    """The work for a run's student and, if wanted, its teacher. Raises UserError where one is not there."""
    name, given = ("top", asked.top) if run.reads_text else ("tokens", asked.tokens)
    if given is not None:
        of, not_of = ("images", "texts") if run.reads_text else ("texts", "images")
        raise UserError(f"{name}={given} is for students of {of}, and this one is of {not_of}: leave it out")
    networks = [run.student, run.teacher] if asked.teacher else [run.student]
    if run.student.epoch is not None:
        rank_zero_print(f"{run.directory}: this is the student of epoch {run.student.epoch}", file=sys.stderr)
    return _of_texts(networks, asked) if run.reads_text else _of_images(networks, run, asked)


def _of_images(networks: Sequence[Network], run: RunNetworks, asked: Asked) -> Work:
    reader, top = images.Reader.of(networks[0], run.config), min(asked.top or 1, len(networks[0].classes))

    def rows(files: Sequence[str]) -> Iterator[tuple[str, Row | None]]:
        pictures = reader.pictures(files)
        for picture, row in images.predicted(networks, pictures, batch_size=asked.batch_size, top=top):
            yield picture.refusal, row

    columns = images.columns(top, teacher=len(networks) > 1)
    return Work("image", EXTENSIONS, columns, rows, counted=True)


def _of_texts(networks: Sequence[Network], asked: Asked) -> Work:
    tokens = asked.tokens or TOKENS
    texts.check_tokens(networks, tokens)
    predicted = partial(texts.predicted, networks, batch_size=asked.batch_size, tokens=tokens)

    def rows(files: Sequence[str]) -> Iterator[tuple[str, Row | None]]:
        for line, row in predicted(texts.lines(files)):
            yield line.refusal, row

    columns = texts.COLUMNS + (texts.BESIDE if len(networks) > 1 else ())
    return Work("line", texts.ENDINGS, columns, rows, counted=False)
