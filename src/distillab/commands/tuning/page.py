"""What tuning found, as a table for the terminal and as a page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillab.commands.sweep import program
from distillab.reporting import tables
from distillab.reporting.metric_table import NOTHING, metric

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("method", "trials", "default", "best", "test of the best", "median", "middle half", "range")
NOTE = (
    "{figure} on the validation samples, which chose the best trial; every method had the same budget, and `default` "
    "is its first trial, with the numbers as they stand in the files. The best of many trials flatters itself: compare "
    "methods by its {label} on test, over several seeds."
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one method's trials: its primary figure, on validation samples where nothing else is said."""

    method: str  # its name, with what was changed where several have it
    primary: str  # the key of the figure
    values: Sequence[float]  # of the trials that ended well
    failed: int  # how many did not
    default: float | None  # of the first trial; None if it failed
    best: float | None  # None where all failed, as for the test
    test: float | None  # of the best trial, on test samples
    words: Sequence[str]  # the overrides that repeat the best with several seeds

    @property
    def command(self) -> str:
        """The command that trains the best with several seeds."""
        return f"{program()} {shlex.join(self.words)}"

    @property
    def row(self) -> tuple[str, ...]:
        """Under `HEADINGS`; the middle half is from the first to the third quartile, interpolated."""
        form, spread = metric(self.primary).form, (NOTHING, NOTHING, NOTHING)
        if self.values:
            import numpy as np

            lowest, first, median, third, highest = map(form, np.percentile(self.values, [0, 25, 50, 75, 100]))
            spread = median, f"{first} to {third}", f"{lowest} to {highest}"
        trials = f"{len(self.values)}" + (f" and {self.failed} failed" if self.failed else "")
        return self.method, trials, form(self.default), form(self.best), form(self.test), *spread


def note(outcomes: Sequence[Outcome]) -> str:
    """What the numbers are, and are not."""
    known = metric(outcomes[0].primary)
    figure = known.label[0].upper() + known.label[1:] + (" in percent" if known.unit == "%" else "")
    return NOTE.format(figure=figure, label=known.label)


def table(outcomes: Sequence[Outcome]) -> "Table":
    """All methods, one row each."""
    title = f"Tuning: {metric(outcomes[0].primary).heading} on validation samples"
    about = {"title": title, "caption": note(outcomes).replace("`", "")}
    return tables.terminal(HEADINGS, [one.row for one in outcomes], ("method",), **about)


def repeats(outcomes: Sequence[Outcome]) -> list[str]:
    """The command of each method that repeats its best trial with several seeds."""
    return [one.command for one in outcomes if one.words]


def markdown(command: str, outcomes: Sequence[Outcome]) -> str:
    """All methods as a Markdown page."""
    page = tables.markdown(HEADINGS, [one.row for one in outcomes], [heading != "method" for heading in HEADINGS])
    best = "\n".join(f"    {line}" for line in repeats(outcomes)) or "No trial has ended well."
    told = f"{page}\n\n{note(outcomes)}\n\nThe best numbers of each, with three seeds:\n\n{best}"
    return f"# Tuning\n\n    {command}\n\n{told}\n"
