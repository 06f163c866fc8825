"""What tuning found, as a table for the terminal and as a page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillab.commands.sweep import program
from distillab.reporting import tables
from distillab.reporting.metric_table import NOTHING, percent

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("method", "trials", "default", "best", "test of the best", "median", "middle half", "range")
TEXTS = ("method",)  # the other columns are numbers
NOTE = (
    "Top-1 in percent on the validation samples, which chose the best trial; every method had the same budget, and "
    "`default` is its first trial, with the numbers as they stand in the files. The best of many trials flatters "
    "itself: compare methods by its test accuracy, over several seeds."
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one method's trials: top-1 on validation samples, from 0 to 1.

    Attributes:
        method: its name, with what was changed where several have it.
        values: of the trials that ended well.
        failed: how many did not.
        default: of the first trial, None if it failed.
        test: top-1 on test samples of the best trial.
        words: the overrides that repeat it with several seeds.
    """

    method: str
    values: Sequence[float]
    failed: int
    default: float | None
    test: float | None
    words: Sequence[str]

    @property
    def command(self) -> str:
        """The command that trains the best with several seeds."""
        return f"{program()} {shlex.join(self.words)}"


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """One row for each method, under `HEADINGS`."""
    return [
        (
            one.method,
            f"{len(one.values)}" + (f" and {one.failed} failed" if one.failed else ""),
            percent(one.default),
            percent(max(one.values, default=None)),
            percent(one.test),
            *_spread(one.values),
        )
        for one in outcomes
    ]


def _spread(values: Sequence[float]) -> tuple[str, str, str]:
    """Median, middle half (from the first to the third quartile, interpolated) and range."""
    if not values:
        return NOTHING, NOTHING, NOTHING
    import numpy as np

    lowest, first, median, third, highest = np.percentile(values, [0, 25, 50, 75, 100])
    return percent(median), f"{percent(first)} to {percent(third)}", f"{percent(lowest)} to {percent(highest)}"


def table(outcomes: Sequence[Outcome]) -> "Table":
    """All methods, one row each."""
    about = {"title": "Tuning: top-1 % on validation samples", "caption": NOTE.replace("`", "")}
    return tables.terminal(HEADINGS, rows(outcomes), TEXTS, **about)


def repeats(outcomes: Sequence[Outcome]) -> list[str]:
    """The command of each method that repeats its best trial with several seeds."""
    return [one.command for one in outcomes if one.words]


def markdown(command: str, outcomes: Sequence[Outcome]) -> str:
    """All methods as a Markdown page."""
    page = tables.markdown(HEADINGS, rows(outcomes), TEXTS)
    best = "\n".join(f"    {line}" for line in repeats(outcomes)) or "No trial has ended well."
    return f"# Tuning\n\n    {command}\n\n{page}\n\n{NOTE}\n\nThe best numbers of each, with three seeds:\n\n{best}\n"
