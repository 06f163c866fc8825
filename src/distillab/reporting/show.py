"""What a person sees at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distillab.core import distributed
from distillab.core.distributed import rank_zero_print
from distillab.core.files import writable
from distillab.core.result_reader import load_all, rankable
from distillab.reporting import leaderboard
from distillab.reporting.table import final_table, further, verdict

if TYPE_CHECKING:
    from distillab.core.result import Result


def refresh(runs: Path) -> None:
    """Draw the leaderboard and the plot again, over all runs so far."""
    from distillab.reporting.plots import accuracy_plot  # matplotlib takes its time

    with writable(runs, "paths.runs=…"):
        leaderboard.update(runs)
        if results := rankable(load_all(runs)[0])[0]:
            accuracy_plot(results, runs / "accuracy_vs_parameters.png")


def show(result: Result, directory: Path) -> None:
    """The table, what it says, and where things are."""
    if distributed.rank != 0:
        return
    from rich.console import Console

    runs = directory.parents[1]
    console = Console()
    # A pipe has no width of its own; 80 columns would break every cell.
    (console if console.is_terminal else Console(width=140)).print(final_table(result))
    for sentence in (verdict(result), *further(result)):
        rank_zero_print(sentence)
    rank_zero_print(
        f"{directory}/result.json, student.safetensors; over all runs: {runs}/leaderboard.md, accuracy_vs_parameters.png"
    )
