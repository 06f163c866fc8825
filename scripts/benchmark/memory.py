"""The most memory that a piece of work takes, in a process that does nothing else."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path
from threading import Event, Thread
from typing import Any

from benchmark import child_environment

EVERY = 0.02  # seconds between two looks at the workers


def peak_memory(work: Callable[[], Any], preload: Sequence[str] = ()) -> float:
    """The most memory in use while a fresh process does `work`, in MB; on a GPU, of the GPU.

    Args:
        work: a function that pickle takes.
        preload: modules that it needs; the fork server, which all calls share, imports them once.

    Returns:
        The process's own peak, and the peak of what its child processes (a loader's workers) hold beyond what they
        share with it; where there is no /proc, its own alone.
    """
    os.environ.update(child_environment())  # the fork server starts with nothing else to find the preloaded modules by
    context = get_context("forkserver")  # no copy of this process: neither its memory nor its threads
    context.set_forkserver_preload(["benchmark.memory", *preload])
    with ProcessPoolExecutor(1, mp_context=context) as pool:  # the processes of a Pool may not have workers
        return pool.submit(_peak, work, get_start_method()).result()


def _peak(work: Callable[[], Any], start_method: str) -> float:
    set_start_method(start_method, force=True)  # of workers: as where the work is timed
    done, workers = Event(), [0.0]

    def look() -> None:
        while not done.wait(EVERY):
            workers.append(sum(_private(child) for child in _descendants("self")))

    looking = Thread(target=look, daemon=True)
    looking.start()
    try:
        work()
    finally:
        done.set()
        looking.join()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6 + max(workers)


def _descendants(process: str) -> list[str]:
    children: list[str] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children += file.read_text().split()
        except OSError:  # the thread has ended
            continue
    return children + [further for child in children for further in _descendants(child)]


def _private(process: str) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # the process has ended
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6
