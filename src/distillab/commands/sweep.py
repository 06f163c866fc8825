"""A sweep as a whole: which cell is running, how long the rest takes, and one table of all cells.

Cells may run in other processes or on other machines: they share one small file per cell in the sweep's folder.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from distillab.commands.invocation import finished
from distillab.core import stopping
from distillab.core.files import replacing, writable, write_json
from distillab.core.output import rank_zero_print
from distillab.reporting.sweep_table import markdown, show

if TYPE_CHECKING:
    from distillab.core.result import Result

Record = dict[str, Any]

COMMAND = "DISTILLAB_COMMAND"  # environment variable: the command line, for the processes of a run

failures: list[int] = []  # how many cells of this command's sweep failed


class Sweep(Callback):
    """Hydra's callback in the first process of a sweep: counts the cells first, prints the table last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the number of cells and the command line into the sweep's folder, and print where progress is shown."""
        folder = Path(config.hydra.sweep.dir)
        told = {"cells": number_of_cells(config), "command": command(), "began": _began(folder) or time.time()}
        write_json(folder / "sweep.json", told)
        if "joblib" in config.hydra.launcher._target_:
            stopping.listen(stopping.pass_on)
        rank_zero_print(f"{folder}/sweep.md will show how far the sweep is")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table of all cells, and count those that failed."""
        stopping.check()
        folder = Path(config.hydra.sweep.dir)
        records = recorded(folder)
        total = about(folder)["cells"] or len(records)  # those that never started failed too
        failures.append(max(total, len(records)) - sum("score" in record for record in records))
        show(records)
        rank_zero_print(f"{folder}/sweep.md")
        try:
            self._report(folder, Path(config.paths.runs).expanduser())
        finally:  # Hydra turns what is raised here into a warning
            if failures[-1]:
                many = f"error: {failures[-1]} of {total} cells failed"
                rank_zero_print(f"{many}; the same command runs only those again", file=sys.stderr)

    def _report(self, folder: Path, runs: Path) -> None:
        """Write the page over the sweep's results, and say what they show: a verdict for each student."""
        from distillab.reporting.metric_table import PLOTTED, metric
        from distillab.reporting.report import write_report
        from distillab.reporting.tables import print_table, terminal

        if ended := results(folder, runs):
            with writable(folder, "paths.runs=…"):
                page = write_report(runs, folder / "report.html", ended)
            for board in page.leaderboard:  # a line for each method, over its runs; the page has its costs
                print_table(terminal(board.without({metric(key).heading for key in PLOTTED})))
            rank_zero_print("\n".join((*page.verdicts, f"{page.path}")))


class Cell:
    """One cell of a sweep: says where the sweep stands, and records how the cell ended."""

    def __init__(self, folder: Path, index: int, strategy: str, student: str, *, overrides: Sequence[str] = ()) -> None:
        """Note the cell by its number from 0, its method's and student's names, and what differs from the defaults."""
        self.folder, self.index = folder, index
        self.record: Record = {"number": index + 1, "strategy": strategy, "student": student}
        self._write(overrides=list(overrides))

    def begin(self) -> None:
        """Start the clock and say where the sweep stands: the cell has its devices, until then it waited for them."""
        self._write(started=time.time())
        total = about(self.folder)["cells"]
        left = seconds_left(recorded(self.folder), total, self.record["started"])
        where = f"cell {self.index + 1}" + (f" of {total}" if total else "")
        rest = "" if left is None else f" · about {duration(left)} left"
        rank_zero_print(f"{where} · {self.record['strategy']}, {self.record['student']}{rest}")

    def run(self, work: Callable[[], "Result"], one_line: Callable[[Exception], str]) -> "Result":
        """Do the cell's work and record its result; an exception is recorded in one line and raised again."""
        try:
            result = work()
        except Exception as error:
            self._write(error=one_line(error), ended=time.time())
            raise
        created = datetime.fromisoformat(result.created).timestamp() + 1  # it has no fractions of a second
        self._write(
            primary=result.primary.name,
            score=result.primary.value,
            gain=result.gain,
            over=result.reference,
            protocol=result.protocol,
            seconds=result.seconds.get("total"),
            earlier=created < self.record["started"],
            ended=time.time(),
            run=f"{result.name}/{result.config_hash}",
        )
        return result

    def _write(self, **news: Any) -> None:
        self.record |= news
        with writable(self.folder, "paths.runs=…"):
            write_json(self.folder / "cells" / f"{self.index:05d}.json", self.record)
            # The lock spans reading too, or a slower process would overwrite a newer table with what it read earlier.
            with FileLock(self.folder / ".lock"), replacing(self.folder / "sweep.md") as temporary:
                temporary.write_text(markdown(about(self.folder), recorded(self.folder)), encoding="utf-8")


def command() -> str:
    """The command line, also in the processes that a run of several devices starts."""
    return os.environ.get(COMMAND) or f"{program()} {shlex.join(sys.argv[1:])}".rstrip()


def program() -> str:
    """The program of the command line."""
    return "distillab" if Path(sys.argv[0]).name != "train.py" else "python train.py"


def number_of_cells(config: DictConfig) -> int | None:
    """How many cells Hydra's own sweeper makes of a multirun; None for a sweeper that decides as it goes."""
    sweeper = config.hydra.sweeper
    if not str(sweeper._target_).endswith(".BasicSweeper"):
        return None
    words = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + [*config.hydra.overrides.task]
    return len(combinations(words, GlobalHydra.instance().config_loader()))


def combinations(words: list[str], config_loader: Any) -> list[list[str]]:
    """The overrides of each cell that Hydra's own sweeper makes of these."""
    overrides = OverridesParser.create(config_loader=config_loader).parse_overrides(words)
    return BasicSweeper.split_arguments(overrides, None)[0]


def about(folder: Path) -> Record:
    """What the sweep's first process wrote: `cells` (None if unknown), `command`, and when it `began` (not in old ones)."""
    return {"cells": None, "command": command()} | (_read(folder / "sweep.json") or {})


def _began(folder: Path) -> float | None:
    """When the sweep first began that this command goes on with: its latest one, where not all cells ended well."""
    written = sorted(folder.parent.glob("*/sweep.json"), key=lambda path: path.stat().st_mtime)
    same = [path.parent for path in written if (_read(path) or {}).get("command") == command()]
    if not same or sum("score" in record for record in recorded(same[-1])) == about(same[-1])["cells"]:
        return None
    return about(same[-1]).get("began")


def recorded(folder: Path) -> list[Record]:
    """The cells that have begun so far, in the order of the sweep."""
    read = (_read(path) for path in sorted(folder.glob("cells/*.json")))
    return [record for record in read if record is not None and {"strategy", "student", "overrides"} <= record.keys()]


def _read(path: Path) -> Record | None:
    """What a file of the sweep says; None where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def results(folder: Path, runs: Path) -> list["Result"]:
    """The results, below `runs`, of the cells of the sweep in `folder` that have ended well so far, in its order."""
    found = [finished(runs / record["run"]) for record in recorded(folder) if "run" in record]
    return [result for result in found if result is not None]


def seconds_left(records: Sequence[Record], cells: int | None, now: float) -> float | None:
    """Seconds that the cells at work and those still to come will take; None while nothing is known.

    That is the mean of the cells that ran to their end, not of those that failed or were finished before the sweep, for
    each; those that wait for a device are still to come. Cells that run at the same time share the rest between them.
    """
    ran = [record["ended"] - record["started"] for record in records if record.get("earlier") is False]
    if not ran or cells is None:
        return None
    mean = sum(ran) / len(ran)
    ended = sum("ended" in record for record in records)
    ages = [now - record["started"] for record in records if "ended" not in record and "started" in record]
    rest = mean * (cells - ended - len(ages)) + sum(max(mean - age, 0) for age in ages)
    return rest / max(len(ages), 1)


def duration(seconds: float) -> str:
    """A rough time in words: 40 s, 12 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
