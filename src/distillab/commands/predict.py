"""The command `distillab predict`: what the student of a run tells of images or texts, row by row."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from distillab.commands.own_words import read_words
from distillab.commands.run_folder import Places, typed, where_it_lies
from distillab.core import output
from distillab.core.allowed import Choice, Count, CountOrNone, Flag
from distillab.core.configuration import TextOrNone, Texts
from distillab.core.errors import UserError, first_few, printable
from distillab.core.group import group
from distillab.core.output import rank_zero_print
from distillab.training.startup import import_quietly

if TYPE_CHECKING:
    from rich.progress import Progress

    from distillab.commands.predicting.networks import RunNetworks

HELP = """distillab predict run=runs/<name>/<hash> images/ more/cat.png
    a row for each image: file, class, probability; folders are read at any depth
distillab predict run=runs/<name>/<hash> texts.txt texts.jsonl
    a row for each line: file, line, bits_per_byte, continuation
out=predictions.csv      or .jsonl: a file instead of standard output; format=csv or jsonl where its name does not say
teacher=true             what the teacher says beside it
top=3                    so many classes of the student      tokens=32     of a continuation
batch_size=64            images or lines at once             trust=true    calls classes of yours that the run names
paths.store=…            where the run's teacher lies now    data.root=…, data.path=…   and its data"""
MANUAL = "docs/predict.md"


@group
class Words(Places):
    """What `distillab predict` takes."""

    inputs: Texts = field(default_factory=list)
    out: TextOrNone = None
    format: Annotated[str | None, Choice("csv", "jsonl", None)] = None
    teacher: Flag = False
    batch_size: Count = 64
    top: CountOrNone = None  # 1
    tokens: CountOrNone = None  # 32


def predict(words: Sequence[str]) -> None:
    """Do what the words of a command line ask for. Raises UserError, also where nothing could be predicted."""
    if output.asks_for_help(words):
        rank_zero_print(f"{HELP}\nMore: {MANUAL}", result=True)
        return
    asked = Words.of(read_words(words, Words, "predict", MANUAL))
    if not asked.inputs:
        raise UserError(f"name files or folders: distillab predict run={asked.run} images/ ({MANUAL})")
    with output.quietly(True):  # standard output is for the rows
        networks = networks_of(asked)
        _predict(asked, networks)


def networks_of(asked: Places) -> "RunNetworks":
    """The networks of the run that is asked for, with its data and its store where they lie now."""
    directory = Path(asked.run).expanduser()
    config = typed(where_it_lies(asked, directory), directory)
    import_quietly(config.trainer.accelerator)
    from distillab.commands.predicting.networks import RunNetworks

    return RunNetworks(directory, config, trust=asked.trust)


def _predict(asked: Words, networks: "RunNetworks") -> None:
    from distillab.commands.predicting import inputs, rows
    from distillab.commands.predicting.work import work_of

    out = Path(asked.out).expanduser() if asked.out else None
    kind = rows.format_of(out, asked.format)
    work = work_of(networks, asked)
    found = inputs.find(asked.inputs, work.endings)
    count, refused = 0, len(found.refused)
    if refused and not found.files and not found.others:
        raise UserError(f"nothing to predict: {first_few(found.refused)}")
    for line in found.refused:
        _tell(line)
    if found.others:
        _tell(
            f"left out, as their names do not end in {' '.join(work.endings)}: {len(found.others):,} "
            f"({first_few(found.others)})"
        )
    if not found.files:
        raise UserError(f"no {work.unit}s to predict in {first_few(asked.inputs)} ({' '.join(work.endings)})")
    with rows.writing(out, kind, work.columns) as write, _progress(out) as bar:
        task = bar.add_task(f"{work.unit}s", total=work.total(found.files))
        for refusal, row in work.rows(found.files):
            bar.advance(task)
            if row is None:
                refused += 1
                _tell(refusal)
            else:
                count += 1
                write(row)
        if not count:
            asks = f"this run's student reads {work.unit}s ({' '.join(work.endings)})"
            raise UserError(f"nothing was predicted: {refused:,} skipped; {asks}")
    skipped = f", {refused:,} skipped" if refused else ""
    _tell(f"{count:,} {work.unit}{'s' if count != 1 else ''} predicted{skipped}{f': {out}' if out else ''}")


def _tell(line: str) -> None:
    """A line on standard error, as standard output is for the rows."""
    rank_zero_print(printable(line), file=sys.stderr)


@contextmanager
def _progress(out: Path | None) -> Iterator["Progress"]:
    """A bar on standard error where that is a terminal, and no rows are shown there."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    rows_shown = out is None and sys.stdout.isatty()
    shows = sys.stderr.isatty() and not rows_shown
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shows, transient=True) as bar:
        yield bar
