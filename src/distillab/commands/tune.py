"""Tuning: as many trials for every method as for the student alone; then the best of each on seeds of their own."""

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
from distillab.commands.tuning.page import Told
from distillab.commands.tuning.space import search_space
from distillab.core import stopping
from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.core.files import replacing, writable, write_json
from distillab.core.instantiate import build
from distillab.core.output import rank_zero_print
from distillab.core.run_identity import config_hash, method_name
from distillab.reporting.tables import print_table

if TYPE_CHECKING:
    from distillab.commands.tuning.confirmation import Confirmation
    from distillab.commands.tuning.study import Tuned


told: list[Told] = []  # of this command, for the tables at its end


class Tune(Sweeper):
    """Runs the trials of all chosen methods as cells of one sweep, in turns, and then what was chosen on fresh seeds.

    Each method has `trials`, `at_once` of which a launcher with several workers may run at the same time. `fresh_seeds` is
    how many seeds confirm. `space`: dotted key → [low, high], [low, high, log], or null to keep a number as it is;
    `params` are as for Hydra's own sweeper.
    """

    def __init__(
        self, trials: int, at_once: int, fresh_seeds: int = 3, *, space: Any = None, params: Any = None
    ) -> None:
        self.trials, self.at_once, self.fresh_seeds = trials, at_once, fresh_seeds
        self.space, self.params = space or {}, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of every method's budget, and of the confirmation of what it chose.

        Raises UserError where optuna or validation samples are missing, a number cannot be searched, or another command
        tunes the same.
        """
        _check(self.trials, self.at_once, self.fresh_seeds, self.space)
        from distillab.commands.tuning.confirmation import Confirmation  # with optuna, which has just been found

        folder, launched = Path(self.config.hydra.sweep.dir), 0
        with ExitStack() as locks:
            methods = self._methods(arguments, locks)
            _check_used(self.space, methods)
            _tell_apart(methods)
            confirmation = Confirmation(methods, self.fresh_seeds)
            left = sum(one.left() for one in methods)
            self._count(folder, left + 2 * len(methods) * self.fresh_seeds if left else len(confirmation.left()))
            # In turns: a sweep that is cut off has spent about the same on each.
            while batch := [(one, trial) for one in methods for _ in range(self.at_once) if (trial := one.ask())]:
                cells = [one.words + one.overrides(trial.params) for one, trial in batch]
                for (one, trial), answer in zip(batch, self._launch(cells, launched), strict=True):
                    one.tell(trial, answer)
                launched += len(batch)
                self._write(folder, confirmation)
            if runs := confirmation.left():
                self._count(folder, launched + len(runs))
                cells = [one.confirming(numbers, seed) for one, numbers, seed in runs]
                for (one, numbers, seed), answer in zip(runs, self._launch(cells, launched), strict=True):
                    one.confirm(numbers, seed, answer)
            self._write(folder, confirmation)

    def _launch(self, cells: list[list[str]], launched: int) -> list[Mapping[str, Any]]:
        """The answers of cells; where the command is stopped, the next one asks for them again."""
        jobs = self.launcher.launch(cells, initial_job_idx=launched)
        stopping.check()
        return [_answer(job) for job in jobs]

    def _count(self, folder: Path, cells: int) -> None:
        write_json(folder / "sweep.json", about(folder) | {"cells": cells})

    def _write(self, folder: Path, confirmation: "Confirmation") -> None:
        outcomes = [one.outcome() for one in confirmation.methods]
        runs = Path(self.config.paths.runs).expanduser()
        told[:] = [Told(outcomes, confirmation.outcome(runs), confirmation.searched, confirmation.fresh)]
        with writable(folder, "paths.runs=…"), replacing(folder / "tune.md") as temporary:
            temporary.write_text(told[0].page(about(folder)["command"]), encoding="utf-8")

    def _methods(self, arguments: list[str], locks: ExitStack) -> list["Tuned"]:
        """Every method, the student alone first: untuned, it would lose to the tuned methods.

        It has no teacher, and learns from the known labels where the others learn from the teacher's.
        """
        given = [f"{key}={value}" for key, value in self.params.items()] + arguments
        chosen = combinations(given, self.hydra_context.config_loader)
        settings = [_setting(words) for words in chosen]
        first = dict(reversed(settings))  # of those with one setting
        alone = {setting: self._tuned([*first[setting], "strategy=none"], locks) for setting in dict(settings)}
        taught = []
        for words, (setting, _) in zip(chosen, settings, strict=True):
            if "strategy=none" not in words:
                taught.append(self._tuned(words, locks))
                taught[-1].alone = alone[setting]
        return [*alone.values(), *taught]

    def _tuned(self, words: list[str], locks: ExitStack) -> "Tuned":
        from distillab.commands.tuning.study import Tuned, open_study

        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(words))
        scheme = composed.hydra.runtime.choices["scheme"]
        own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        plain = OmegaConf.to_container(own, resolve=True)
        label = method_name(strategy_label(plain.get("strategy") or {}), scheme)
        run = parse(plain, words)
        task = build(run.task, "task")
        if not run.protocol.validation:
            raise UserError("protocol=paper has no validation samples to tune on, only test: choose protocol=standard")
        numbers = search_space(plain, self.space)
        name = config_hash(plain | {"space": {key: asdict(number) for key, number in numbers.items()}})
        folder = Path(run.paths.runs) / run.name / "tune"
        study = open_study(folder, name, locks, higher_is_better=task.higher_is_better)
        return Tuned(label, task, words, numbers, study, self.trials, seed=plain["seed"])


def register() -> None:
    """Let Hydra find the sweeper under the name that the config gives it; call before a sweep begins."""
    Plugins.instance().class_name_to_class[TUNE] = Tune


class Report(Sweep):
    """Hydra's callback for the end of a tuning."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the cells, as after every sweep, then what was chosen and what the fresh seeds say of it."""
        folder = Path(config.hydra.sweep.dir)
        if recorded(folder):
            super().on_multirun_end(config, **kwargs)
        for one in told:
            for table in one.tables():
                print_table(table)
        rank_zero_print(f"{folder}/tune.md")

    def _report(self, folder: Path, runs: Path) -> None:
        """No page: it would rank the trials by test samples, which choose nothing here."""


def _check(trials: int, at_once: int, fresh_seeds: int, space: Any) -> None:
    given = {"trials": (trials, 20), "at_once": (at_once, 1), "fresh_seeds": (fresh_seeds, 3)}
    for name, (number, default) in given.items():
        Range(1, whole=True).check(number, f"hydra.sweeper.{name}", default)
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


def _setting(words: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """What a method has in common with the student alone beside it, and the overrides of that one."""
    own = [word for word in words if not word.lstrip("+~").startswith(("strategy", "scheme", "data.labels="))]
    return tuple(word for word in own if not word.startswith("teacher")), own


def _tell_apart(methods: Sequence["Tuned"]) -> None:
    """Give methods of the same name the overrides in which they differ."""
    for one in methods:
        alike = [set(other.words) for other in methods if other.label == one.label]
        one.changed = " ".join(word for word in one.words if word not in set.intersection(*alike))


def _answer(job: JobReturn) -> Mapping[str, Any]:
    """What a cell returned, or its error."""
    from distillab.commands.error_line import one_line

    try:
        return job.return_value or {}
    except Exception as error:
        return {"error": one_line(error)}
