"""What a tuning found, as tables for the terminal and as a Markdown page: what was chosen, and what the fresh seeds say."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from distillab.reporting.metric_table import NOTHING, Metric, metric
from distillab.reporting.tables import Table, markdown, terminal, without_tags

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from distillab.commands.tuning.confirmation import Confirmed
    from distillab.commands.tuning.study import Outcome
    from distillab.evaluation.families import Finding

CHOSEN = ("method", "trials", "default", "best", "median", "middle half", "range")
CONFIRMED = ("method", "chosen numbers", "with these", "with its own", "gain over the student alone", "gain by tuning")


@dataclass(frozen=True)
class Told:
    """The outcome of all methods, the runs that confirm it, and the seeds of both."""

    outcomes: Sequence["Outcome"]
    confirmed: Sequence["Confirmed"]
    searched: Sequence[int]
    fresh: Sequence[int]

    def tables(self) -> list["RichTable"]:
        """For the terminal, one row a method: the trials, and the runs that confirm."""
        figure = metric(self.outcomes[0].primary).heading
        found = [(CHOSEN, [chosen(one) for one in self.outcomes], f"{figure} on validation samples", self.of_trials)]
        if self.confirmed:
            rows = [confirmed(one) for one in self.confirmed]
            found.append((CONFIRMED, rows, f"{figure} on test, {seeds(self.fresh)}", self.of_fresh))
        return [
            terminal(Table(headings, rows, f"Tuning: {title}"), caption.replace("`", ""))
            for headings, rows, title, caption in found
        ]

    def page(self, command: str) -> str:
        """The same as a Markdown page, with the commands of the runs that confirm."""
        parts = [f"# Tuning\n\n    {command}", "## What was chosen"]
        parts += [markdown(Table(CHOSEN, [chosen(one) for one in self.outcomes])), self.of_trials]
        if self.confirmed:
            rows = [confirmed(one) for one in self.confirmed]
            parts += ["## What the fresh seeds say", markdown(Table(CONFIRMED, rows)), self.of_fresh]
        commands = "\n".join(f"    {one.command(self.fresh)}" for one in self.outcomes if one.words)
        parts += ["The runs with the chosen numbers, which reports rank:", commands or "No trial has ended well."]
        return without_tags("\n\n".join(parts) + "\n")

    @property
    def of_trials(self) -> str:
        """What the figures of the trials are, and are not."""
        known = metric(self.outcomes[0].primary)
        figure = known.label[0].upper() + known.label[1:] + (" in percent" if known.unit == "%" else "")
        return (
            f"{figure} on the validation samples, which alone chose the best trial, with {seeds(self.searched)}; every "
            "method had the same budget, and `default` is its first trial, with the numbers as they stand in the files. "
            "The best of many trials flatters itself: no test sample and no further seed has a part in this table."
        )

    @property
    def of_fresh(self) -> str:
        """What the figures of the runs that confirm are."""
        sizes = {finding.size for one in self.confirmed for finding in (one.over_alone, one.by_tuning) if finding}
        tests = f" over the {' or '.join(map(str, sorted(sizes)))} tests of a column" if sizes - {0, 1} else ""
        return (
            f"Test samples, with {seeds(self.fresh)}, which no trial has used ({seeds(self.searched)} chose). ± is the standard "
            f"deviation over runs. Gains are on the same seeds, with 95 % intervals that hold together{tests}; the student "
            "alone (`none`) was tuned as much as each method."
        )


def chosen(outcome: "Outcome") -> tuple[str, ...]:
    """A method under `CHOSEN`; the middle half is from the first to the third quartile, interpolated."""
    form, spread = metric(outcome.primary).form, (NOTHING, NOTHING, NOTHING)
    if outcome.values:
        import numpy as np

        lowest, first, median, third, highest = map(form, np.percentile(outcome.values, [0, 25, 50, 75, 100]))
        spread = median, f"{first} to {third}", f"{lowest} to {highest}"
    trials = f"{len(outcome.values)}" + (f" and {outcome.failed} failed" if outcome.failed else "")
    return outcome.method, trials, form(outcome.default), form(outcome.best), *spread


def confirmed(one: "Confirmed") -> tuple[str, ...]:
    """A method under `CONFIRMED`."""
    shown = metric(one.primary)
    figures = [mean(list(runs.values()), shown) for runs in (one.tuned, one.untuned)]
    gains = [gain(finding, shown) for finding in (one.over_alone, one.by_tuning)]
    return one.method, " ".join(one.numbers) or "its own", *figures, *gains


def mean(values: Sequence[float], shown: Metric) -> str:
    """The mean, with the standard deviation over runs where there are several."""
    if not values:
        return NOTHING
    return shown.form(fmean(values)) + (f" ± {shown.form(stdev(values))}" if len(values) > 1 else "")


def gain(finding: "Finding | None", shown: Metric) -> str:
    """A gain with its interval, and whether a difference is shown."""
    from distillab.reporting.words import brief  # late: the command line must not wait for pydantic

    return NOTHING if finding is None else brief(finding, shown)


def seeds(numbers: Sequence[int]) -> str:
    """Seeds in words: `seeds 1, 2 and 3`."""
    *first, last = map(str, numbers)
    return f"seeds {', '.join(first)} and {last}" if first else f"seed {last}"
