"""A signal stops the command wherever it is, with one line; a fit first finishes its step (`training.callbacks`)."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

# Ctrl-C, `kill` (a batch system, a container), and a terminal that was closed, which Windows does not have.
SIGNALS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP")]


SAME = 0.5  # seconds: a terminal's signal reaches every process by itself, and is passed on to it as well

in_ray: list[bool] = []  # filled in a process of Ray's that runs a cell
asked: list[int] = []  # the signals that this process passed on to others, or that a worker got; it begins nothing more


class Stopped(BaseException):
    """Somebody stopped the command. A BaseException: no handler may take it for an error by accident."""

    def __init__(self, text: str, number: int = signal.SIGTERM) -> None:
        super().__init__(text)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code, as shells give it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


def stop(number: int, frame: Any = None) -> None:
    """The handler outside a fit: stop at once."""
    raise Stopped(f"stopped by {signal.Signals(number).name}", number)


def listen(handler: Callable[[int, Any], None]) -> None:
    """Give the signals to a handler. Only a main thread can; under `nohup` a closed terminal goes on being ignored."""
    with suppress(ValueError):
        for number in SIGNALS:
            if number.name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)


def pass_on(number: int, frame: Any = None) -> None:
    """The handler while joblib's workers run cells: each finishes its step, and none begins another; a second one, at once."""
    global _first
    if asked and time.monotonic() - _first < SAME:
        return
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(loky, "_executor", None)
    workers = list(getattr(executor, "_processes", None) or ())
    if asked or not workers:
        stop(number)
    asked.append(number)
    _first = time.monotonic()
    print("stopping all cells after their step; press Ctrl-C again to stop at once", flush=True)
    for process in workers:
        with suppress(OSError):
            os.kill(process, number)


_first = 0.0  # when the first signal was passed on


def check() -> None:
    """Raise Stopped where a signal was passed on, and all has ended since."""
    if asked:
        stop(asked[0])


def in_worker() -> bool:
    """Whether this process is one of joblib's or Ray's, which runs cells for the command's own."""
    return bool(in_ray) or multiprocessing.current_process().name.startswith("Loky")


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals stop the block in a worker of joblib or Ray, which begins no other after it; elsewhere nothing changes."""
    if not in_worker():
        yield
        return
    check()
    listen(stop)
    try:
        yield
    except Stopped as error:
        asked.append(error.number)
        raise
    finally:
        listen(lambda number, frame: asked.append(number))  # between two cells there is nothing to interrupt
