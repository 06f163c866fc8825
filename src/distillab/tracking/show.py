"""What a person sees at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillab import distributed
from distillab.distributed import say
from distillab.files import writable
from distillab.tracking import leaderboard
from distillab.tracking.result import load_all
from distillab.tracking.table import final_table, verdict


def show(result: Mapping[str, Any], directory: Path) -> None:
    """The table, the sentence, and where things are; the leaderboard and the plot over all runs so far."""
    if distributed.rank != 0:
        return
    from rich.console import Console

    from distillab.tracking.plots import accuracy_against_parameters  # matplotlib takes its time

    runs = directory.parents[1]
    with writable(runs, "paths.runs=…"):
        leaderboard.update(runs)
        accuracy_against_parameters(load_all(runs)[0], runs / "accuracy_vs_parameters.png")
    console = Console()
    # A pipe has no width of its own; 80 columns would break every cell.
    (console if console.is_terminal else Console(width=140)).print(final_table(result))
    say(verdict(result))
    say(
        f"{directory}/result.json, student.safetensors; over all runs: {runs}/leaderboard.md, accuracy_vs_parameters.png"
    )
