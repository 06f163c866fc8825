"""Lines of progress while a corpus is written: rows, tokens per second, time left, cost."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from distillab.core.output import rank_zero_print


@dataclass
class Progress:
    """Counts rows, tokens and seconds while this command writes; prints a line every few seconds."""

    total: int  # rows of the root
    done: int  # of them, those that were there before
    price_per_hour: float | None = None
    every: float = 10.0  # seconds between two lines
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._said = self.clock()
        self._since: float | None = None
        self._spent = 0.0
        self.rows = self.tokens = 0

    @property
    def seconds(self) -> float:
        """Spent in `writing` so far."""
        return self._spent + (0.0 if self._since is None else self.clock() - self._since)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count the time of the block; what else a command does is no compute of the teacher's."""
        self._since = self.clock()
        try:
            yield
        finally:
            self._spent, self._since = self.seconds, None

    def report(self, tokens: int, rows: int) -> None:
        """Count tokens and rows that have been written."""
        self.tokens += tokens
        self.rows += rows
        if self.clock() - self._said >= self.every:
            self._said = self.clock()
            rank_zero_print(self.line())

    def line(self) -> str:
        """How far it is, how fast, how long it still takes, what it has cost."""
        seconds = self.seconds
        rows = f"{self.done + self.rows}/{self.total} rows"
        speed = f"{self.tokens / seconds:,.0f} tokens/s" if seconds > 0 else "– tokens/s"
        left = span((self.total - self.done - self.rows) * seconds / self.rows) if self.rows else "–"
        return f"{rows} · {speed} · {left} left · {cost(seconds, self.price_per_hour)}"


def span(seconds: float) -> str:
    """A time in words."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def cost(seconds: float, price_per_hour: float | None) -> str:
    """Compute, and what it costs where the price is known."""
    money = "" if price_per_hour is None else f" for {seconds / 3600 * price_per_hour:.2f}"
    return f"{span(seconds)} of compute{money}"
