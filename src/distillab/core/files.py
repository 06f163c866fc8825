"""Files that others read: written whole or not at all."""

import hashlib
import json
import math
import os
import platform
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print

HOST = re.sub(r"\W", "-", platform.node())[:30]
TEMPORARY = re.compile(r"\..+\.(?P<host>[\w-]+)\.(?P<process>\d+)-\d+\.tmp")
UMASK = os.umask(0)  # it can only be read by setting it
os.umask(UMASK)
MODE = 0o666 & ~UMASK
OLD = 86400  # seconds after which no process of another machine still writes its temporary file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; takes its place at the end, or vanishes if the block fails.

    It is on the disk before it takes the place, so that a power cut leaves the file before or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_up(path.parent)
    # Not tempfile: its files are readable by their owner alone.
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        readable(temporary)
        _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
        with suppress(OSError):  # not every platform can do that with a folder
            _to_disk(path.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def readable(path: Path) -> None:
    """Give a file the permissions of any new one: those who write weights make some for their owner alone."""
    with suppress(OSError):  # not every file system has them
        path.chmod(MODE)


def _to_disk(path: Path, mode: int) -> None:
    opened = os.open(path, mode)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _sweep_up(folder: Path) -> None:
    """Delete what killed processes left half-written: of this machine's dead ones, and whatever is old."""
    for leftover in folder.glob(".*.tmp"):
        named = TEMPORARY.fullmatch(leftover.name)
        with suppress(OSError):
            dead = named and named["host"] == HOST and not _alive(int(named["process"]))
            if dead or (named and time.time() - leftover.stat().st_mtime > OLD):
                leftover.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextmanager
def writable(place: Path, override: str) -> Iterator[None]:
    """Turn an OSError of the block, such as a full disk, into a UserError that names the override that mends it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write to {place} ({reason}); choose another place: {override}") from error


@contextmanager
def locked(lock: Path, waiting_for: str, override: str) -> Iterator[None]:
    """Hold a lock file; print `waiting_for` while another process does. A dead one's is free; raises as `writable`.

    A block that fails leaves neither the lock file behind nor the folders that were made for it and are still empty.
    """
    held, made = FileLock(lock), []
    with writable(lock.parent, override):
        while not held.is_locked:
            made += [folder for folder in (lock.parent, *lock.parent.parents) if not folder.exists()]
            lock.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the process that held it has failed, and taken the folder away
                _acquire(held, waiting_for)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # a folder that is in use; Windows keeps a file that is open
            lock.unlink(missing_ok=True)  # who waits for it sees that it is gone, and makes a new one
            for folder in made:
                folder.rmdir()
        raise
    finally:
        held.release()


def _acquire(held: FileLock, waiting_for: str) -> None:
    try:
        held.acquire(timeout=0.1)
    except TimeoutError:
        rank_zero_print(f"waiting for {waiting_for}")
        held.acquire()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically in the form of `plain`; where TypeError is raised an older file stays as it was."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def plain(content: Any) -> Any:
    """The content in the types that JSON has: NaN and infinities become None, paths become text."""
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return str(content) if isinstance(content, Path) else content


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
