"""A signal stops the command wherever it is, with one line; a fit first finishes its step (`training.callbacks`)."""

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# Ctrl-C, `kill` (a batch system, a container), and a terminal that was closed, which Windows does not have.
SIGNALS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP")]


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
