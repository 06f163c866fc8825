"""One GPU for each cell of a sweep: as many cells run at once as there are GPUs, and each holds its own by a lock."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distillab.distributed import say, world
from distillab.files import writable

VISIBLE = "CUDA_VISIBLE_DEVICES"

_own: list[str] = []  # this process's GPU: where CUDA has started, it cannot change to another


def device_of_a_cell(trainer: Mapping[str, Any], several: bool) -> Any:
    """A context in which a cell has a GPU to itself; an empty one where there is nothing to share out.

    Args:
        trainer: the group `trainer` of the config.
        several: whether other processes run cells of the same sweep.
    """
    if not several or world > 1 or trainer["devices"] != 1 or trainer["accelerator"] not in ("auto", "gpu", "cuda"):
        return nullcontext()
    ids = visible_devices()
    if len(ids) < 2 and not _own:
        return nullcontext()
    # All sweeps of one person on this machine share the GPUs, wherever their results lie.
    return hold_device(ids, Path(tempfile.gettempdir()) / f"distillab-devices-{getpass.getuser()}")


def visible_devices() -> list[str]:
    """The GPUs that this process may use, by number or UUID; CUDA is not started."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [word.strip() for word in named.split(",") if word.strip() not in ("", "-1")]
    from torch import cuda

    return [str(number) for number in range(cuda.device_count())]  # asks the driver's own library, not CUDA


@contextmanager
def hold_device(ids: Sequence[str], folder: Path, pause: float = 0.5) -> Iterator[str]:
    """Hold one device and let this process see no other; waits while all are held.

    The operating system drops the lock of a process that died. A process that held a device before takes the same one.

    Args:
        ids: of the devices, as CUDA_VISIBLE_DEVICES names them.
        folder: keeps the locks.
        pause: seconds between two looks, while waiting.

    Yields:
        The device's id.

    Raises:
        UserError: the folder cannot be written to.
    """
    wanted = _own or list(ids)
    with writable(folder, "TMPDIR=…"):
        folder.mkdir(parents=True, exist_ok=True)
        own, lock = _first_free(wanted, folder, pause)
    _own[:] = [own]
    os.environ[VISIBLE] = own
    try:
        yield own
    finally:
        _give_memory_back()
        lock.release()


def _first_free(ids: Sequence[str], folder: Path, pause: float) -> tuple[str, FileLock]:
    told = False
    while True:
        for one in ids:
            lock = FileLock(folder / f"{one.replace('/', '-')}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return one, lock
        if not told:
            say(f"waiting for a GPU: other runs hold {', '.join(ids)}")
            told = True
        time.sleep(pause)


def _give_memory_back() -> None:
    """Another process may hold the device next; what this one only keeps at hand is free then."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
