"""Tuning: as many trials for every method as for the student alone; then the best and the spread of each."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from distillab.commands.composition import TUNE, strategy_label
from distillab.commands.invocation import parse
from distillab.commands.sweep import Sweep, about, combinations, recorded
from distillab.commands.tuning.space import search_space
from distillab.core import stopping
from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.core.files import replacing, writable, write_json
from distillab.core.instantiate import build
from distillab.core.output import rank_zero_print
from distillab.core.run_identity import config_hash, method_name
from distillab.reporting.metric_table import NOTHING, metric
from distillab.reporting.tables import markdown, print_table, terminal, without_tags

if TYPE_CHECKING:
    from rich.table import Table

    from distillab.commands.tuning.study import Outcome, Tuned

outcomes: list["Outcome"] = []  # of this command's methods, for the table at its end

HEADINGS = ("method", "trials", "default", "best", "test of the best", "median", "middle half", "range")
NOTE = (
    "{figure} on the validation samples, which chose the best trial; every method had the same budget, and `default` "
    "is its first trial, with the numbers as they stand in the files. The best of many trials flatters itself: compare "
    "methods by its {label} on test, over several seeds."
)


class Tune(Sweeper):
    """Runs the trials of all chosen methods as cells of one sweep, in turns.

    Each method has `trials`, `at_once` of which a launcher with several workers may run at the same time. `space`: dotted
    key → [low, high], [low, high, log], or null to keep a number as it is; `params` are as for Hydra's own sweeper.
    """

    def __init__(self, trials: int, at_once: int, space: Any = None, params: Any = None) -> None:
        self.trials, self.at_once = trials, at_once
        self.space, self.params = space or {}, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of every method's budget.

        Raises UserError where optuna or validation samples are missing, a number cannot be searched, or another command
        tunes the same.
        """
        _check(self.trials, self.at_once, self.space)
        folder, launched = Path(self.config.hydra.sweep.dir), 0
        with ExitStack() as locks:
            methods = [self._tuned(words, locks) for words in self._methods(arguments)]
            _check_used(self.space, methods)
            _tell_apart(methods)
            write_json(folder / "sweep.json", about(folder) | {"cells": sum(one.left() for one in methods)})
            # In turns: a sweep that is cut off has spent about the same on each.
            while batch := [(one, trial) for one in methods for _ in range(self.at_once) if (trial := one.ask())]:
                cells = [one.words + one.overrides(trial.params) for one, trial in batch]
                jobs = self.launcher.launch(cells, initial_job_idx=launched)
                stopping.check()  # the next command asks for these trials again
                launched += len(batch)
                for (one, trial), job in zip(batch, jobs, strict=True):
                    one.tell(trial, _answer(job))
                self._write(folder, methods)
            self._write(folder, methods)

    def _write(self, folder: Path, methods: Sequence["Tuned"]) -> None:
        outcomes[:] = [one.outcome() for one in methods]
        with writable(folder, "paths.runs=…"), replacing(folder / "tune.md") as temporary:
            temporary.write_text(page(about(folder)["command"], outcomes), encoding="utf-8")

    def _methods(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of every method, the student alone first: untuned, it would lose to the tuned methods.

        It has no teacher, and learns from the known labels where the others learn from the teacher's.
        """
        given = [f"{key}={value}" for key, value in self.params.items()] + arguments
        chosen = combinations(given, self.hydra_context.config_loader)
        alone = {}
        for words in chosen:
            own = [word for word in words if not word.lstrip("+~").startswith(("strategy", "scheme", "data.labels="))]
            teacherless = tuple(word for word in own if not word.startswith("teacher"))
            alone.setdefault(teacherless, [*own, "strategy=none"])
        return list(alone.values()) + [words for words in chosen if "strategy=none" not in words]

    def _tuned(self, words: list[str], locks: ExitStack) -> "Tuned":
        from distillab.commands.tuning.study import Tuned, open_study

        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(words))
        scheme = composed.hydra.runtime.choices["scheme"]
        own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        plain = OmegaConf.to_container(own, resolve=True)
        label = method_name(strategy_label(plain.get("strategy") or {}), scheme)
        run = parse(plain)
        task = build(run.task, "task")
        if not run.protocol.validation:
            raise UserError("protocol=paper has no validation samples to tune on, only test: choose protocol=standard")
        numbers = search_space(plain, self.space)
        name = config_hash(plain | {"space": {key: asdict(number) for key, number in numbers.items()}})
        folder = Path(run.paths.runs) / run.name / "tune"
        study = open_study(folder, name, locks, higher_is_better=task.higher_is_better)
        return Tuned(label, task, words, numbers, study, self.trials)


def register() -> None:
    """Let Hydra find the sweeper under the name that the config gives it; call before a sweep begins."""
    Plugins.instance().class_name_to_class[TUNE] = Tune


class Report(Sweep):
    """Hydra's callback for the end of a tuning."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the cells, as after every sweep, the methods, and how to train the best of each again."""
        folder = Path(config.hydra.sweep.dir)
        if recorded(folder):
            super().on_multirun_end(config, **kwargs)
        print_table(table(outcomes))
        if lines := repeats(outcomes):
            rank_zero_print("\n  ".join(["the best of each, with three seeds:", *lines]))
        rank_zero_print(f"{folder}/tune.md")

    def _report(self, folder: Path, runs: Path) -> None:
        """No page: it would rank the trials by test samples, which choose nothing here."""


def _check(trials: int, at_once: int, space: Any) -> None:
    Range(1, whole=True).check(trials, "hydra.sweeper.trials", 20)
    Range(1, whole=True).check(at_once, "hydra.sweeper.at_once", 1)
    if not isinstance(space, Mapping):
        raise UserError(f"hydra.sweeper.space={space} is no mapping: hydra.sweeper.space={{recipe.lr:[0.01,0.5,log]}}")
    try:
        import optuna
    except ImportError as error:
        raise UserError("sweep=tune needs optuna: uv sync --extra sweeps") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _check_used(space: Mapping[str, Any], methods: Sequence["Tuned"]) -> None:
    known = sorted({key for one in methods for key in one.numbers})
    for key, bounds in space.items():
        if bounds is not None and key not in known and f"{key}.value" not in known:
            what = f"no chosen method has a number {key} (searched: {', '.join(known)})"
            raise UserError(f"hydra.sweeper.space: {what}: hydra.sweeper.space={{…}}")


def _tell_apart(methods: Sequence["Tuned"]) -> None:
    """Give methods of the same name the overrides in which they differ."""
    for one in methods:
        alike = [set(other.words) for other in methods if other.label == one.label]
        one.changed = " ".join(word for word in one.words if word not in set.intersection(*alike))


def _answer(job: JobReturn) -> Mapping[str, Any]:
    """What a cell returned, or its error."""
    from distillab.commands.cli import one_line

    try:
        return job.return_value or {}
    except Exception as error:
        return {"error": one_line(error)}


def row(outcome: "Outcome") -> tuple[str, ...]:
    """A method under `HEADINGS`; the middle half is from the first to the third quartile, interpolated."""
    form, spread = metric(outcome.primary).form, (NOTHING, NOTHING, NOTHING)
    if outcome.values:
        import numpy as np

        lowest, first, median, third, highest = map(form, np.percentile(outcome.values, [0, 25, 50, 75, 100]))
        spread = median, f"{first} to {third}", f"{lowest} to {highest}"
    trials = f"{len(outcome.values)}" + (f" and {outcome.failed} failed" if outcome.failed else "")
    return outcome.method, trials, form(outcome.default), form(outcome.best), form(outcome.test), *spread


def note(outcomes: Sequence["Outcome"]) -> str:
    """What the numbers are, and are not."""
    known = metric(outcomes[0].primary)
    figure = known.label[0].upper() + known.label[1:] + (" in percent" if known.unit == "%" else "")
    return NOTE.format(figure=figure, label=known.label)


def table(outcomes: Sequence["Outcome"]) -> "Table":
    """All methods, one row each."""
    title = f"Tuning: {metric(outcomes[0].primary).heading} on validation samples"
    about = {"title": title, "caption": note(outcomes).replace("`", "")}
    return terminal(HEADINGS, [row(one) for one in outcomes], ("method",), **about)


def repeats(outcomes: Sequence["Outcome"]) -> list[str]:
    """The command of each method that repeats its best trial with several seeds."""
    return [one.command for one in outcomes if one.words]


def page(command: str, outcomes: Sequence["Outcome"]) -> str:
    """All methods as a Markdown page."""
    methods = markdown(HEADINGS, [row(one) for one in outcomes], ("method",))
    best = "\n".join(f"    {line}" for line in repeats(outcomes)) or "No trial has ended well."
    told = f"{methods}\n\n{note(outcomes)}\n\nThe best numbers of each, with three seeds:\n\n{best}"
    return without_tags(f"# Tuning\n\n    {command}\n\n{told}\n")
