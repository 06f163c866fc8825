"""The lines for the person: printed by process 0, kept in the run's log, and as far as the terminal can show them."""

import codecs
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from distillab.core.errors import UserError
from distillab.core.stopping import Stopped

rank = int(os.environ.get("RANK", "0"))

_logs: list[TextIO] = []  # of the run that is under way
_before: deque[str] = deque(maxlen=100)  # lines since the last run's end, which the next one's log begins with
_quiet: list[bool] = [False]  # whether lines of progress are only logged
_told: set[str] = set()  # what is printed once


def asks_for_help(words: Iterable[str]) -> bool:
    """Whether a command line asks what the command takes."""
    return not {"--help", "-h"}.isdisjoint(words)


def rank_zero_print(text: str, file: TextIO | None = None, *, result: bool = False) -> None:
    """Print a line from process 0 alone, to standard output where no file is named.

    A quiet run prints no lines but those of its `result`, and those that go to standard error. Raises UserError where
    standard output cannot be written to, and Stopped where its reader has gone (`| head`).
    """
    if rank != 0:
        return
    _log(text)
    if file is sys.stderr is not None:
        _warn(text)
    elif result or not is_quiet():
        try:
            print(text, file=file, flush=True)
        except BrokenPipeError:
            raise Stopped("nobody reads the output any more", signal.SIGPIPE) from None
        except OSError as error:
            raise UserError(f"cannot write the output ({error.strerror}); send it elsewhere, or quiet=true") from error


def rank_zero_print_once(text: str) -> None:
    """Print a line as `rank_zero_print`, but no second time in this process: some networks are built more than once."""
    if text not in _told:
        _told.add(text)
        rank_zero_print(text)


def rank_zero_warn(text: str, own: bool = False) -> None:
    """Print a warning on standard error from process 0, or from any process whose `own` it is."""
    if rank == 0 or own:
        line = f"warning{f' (process {rank})' if rank else ''}: {text}"
        _log(line)
        _warn(line)


def _warn(line: str) -> None:
    with suppress(OSError):  # there is no other place to say it
        print(line, file=sys.stderr, flush=True)


def _log(text: str) -> None:
    if not _logs:
        _before.append(text)
    for log in _logs:
        with suppress(OSError):
            log.write(re.sub(r"\x1b\[[\d;]*m", "", text) + "\n")
            log.flush()


def is_quiet() -> bool:
    """Whether lines of progress are not to be shown."""
    return _quiet[-1]


@contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Print no lines of progress within the block, if so."""
    _quiet.append(quiet)
    try:
        yield
    finally:
        _quiet.pop()


@contextmanager
def logged(path: Path, title: str) -> Iterator[None]:
    """Append the block's lines, those that a quiet run does not print too, to a file, below a line of time and title.

    Where it cannot be written a line says so, and the block goes on.
    """
    if rank != 0:
        yield
        return
    log = None
    try:
        log = path.open("a", encoding="utf-8")
        log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {title}\n")
        log.flush()
    except OSError as error:  # nothing else depends on it
        rank_zero_warn(f"{path} cannot be written ({error.strerror}): the lines of this run are printed alone")
    try:
        if log is not None:
            _logs.append(log)
            for line in tuple(_before):
                _log(line)
            _before.clear()
        yield
    finally:
        if log is not None:
            _logs.remove(log)
            with suppress(OSError):  # of what found no room it would try to write the rest
                log.close()


# What a terminal without Unicode shows instead; `?` for any other letter.
PLAIN = str.maketrans({"−": "-", "–": "-", "×": "x", "±": "+-", "…": "...", "·": "-", "→": "->", "’": "'", "²": "2"})


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The error handler of an encoding that does not have a letter."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "replace").decode(), error.end


def take_any_letter() -> None:
    """Let a terminal or a file that cannot show a letter show a plain one, for the processes that this one starts too."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")
            os.environ["PYTHONIOENCODING"] = f"{stream.encoding}:replace"


def flushed(code: int) -> int:
    """The exit code after the last of the output is written; Python itself would say so with a traceback."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        _warn(f"error: cannot write the output ({error.strerror})")
        return code or 1
