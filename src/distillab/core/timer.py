"""Where the seconds of a run go."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Seconds by part of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a block, also one that fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - started

    def all(self) -> dict[str, float]:
        """The parts and the total so far."""
        return self.seconds | {"total": time.perf_counter() - self.started}
