"""The study of one method: its budget, the next trial, the outcome; kept in a file, so that a cut-off one goes on.

The one module that needs optuna, and takes its time to import.
"""

import hashlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import optuna
from filelock import FileLock, Timeout
from optuna import Study
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from distillab.commands.sweep import program
from distillab.commands.tuning.space import Number, word
from distillab.core.errors import UserError
from distillab.core.files import writable
from distillab.core.result_parts import Primary
from distillab.core.run_identity import config_folder
from distillab.tasks.base import Task


class Run(NamedTuple):
    """A run that confirms: its primary figure on test, and its folder below `paths.runs`."""

    test: float
    folder: str


# What makes a cell of a tuning of overrides without the sweep's file.
COMPOSED = ("hydra/sweeper=tune", "hydra.mode=MULTIRUN")


@dataclass(frozen=True)
class Outcome:
    """The outcome of one method's trials: its primary figure on validation samples."""

    method: str  # its name, with what was changed where several have it
    primary: str  # the key of the figure
    values: Sequence[float]  # of the trials that ended well
    failed: int  # how many did not
    default: float | None  # of the first trial; None if it failed
    best: float | None  # None where all failed
    words: Sequence[str]  # the overrides of a run with the best numbers, without a seed; none where all failed

    def command(self, seeds: Sequence[int]) -> str:
        """The command that trains the best numbers with these seeds."""
        several = f"seed={','.join(map(str, seeds))}"
        return f"{program()} {shlex.join([*config_folder(sys.argv[1:]), '-m', *self.words, several])}"


@dataclass
class Tuned:
    """One method with its study."""

    label: str
    task: Task  # whose primary figure is tuned
    words: list[str]  # its overrides, without those of a trial
    numbers: Mapping[str, Number]  # what its trials vary, by dotted key
    study: Study
    trials: int  # how many it gets
    seed: int = 0  # of all its trials
    alone: Self | None = None  # the student alone of the same setting; None of that itself
    changed: str = ""  # the overrides that tell it from others of its name
    _again: list[tuple[int, FrozenTrial]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if not self.study.trials:
            self.study.enqueue_trial({key: number.start for key, number in self.numbers.items()})
        # Cut off: while the lock is held, no other process runs them.
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            self.study.tell(trial.number, state=TrialState.FAIL)
        self._again = [(slot, trial) for slot, trial in self.slots().items() if trial.state != TrialState.COMPLETE]

    def slots(self) -> dict[int, FrozenTrial]:
        """The budget as far as it is used: number of a trial → its latest attempt.

        A trial that failed or was cut off is asked for again by the next command and takes no second slot.
        """
        latest = {trial.user_attrs.get("again", trial.number): trial for trial in self.study.trials}
        return dict(list(latest.items())[: self.trials])

    def left(self) -> int:
        """How many trials are to be run."""
        return len(self._again) + self.trials - len(self.slots())

    def ask(self) -> Trial | None:
        """The next trial, None when the budget is used up: first the default numbers, then what optuna suggests."""
        if self._again:
            slot, trial = self._again.pop(0)
            if trial.state != TrialState.WAITING:
                self.study.enqueue_trial(trial.params, user_attrs={"again": slot})
        elif len(self.slots()) >= self.trials:
            return None
        # A seed for each trial: a study that was cut off goes on exactly as if it had not been.
        digest = hashlib.sha256(f"{self.label} {len(self.slots())}".encode()).digest()
        self.study.sampler = TPESampler(seed=int.from_bytes(digest[:4], "big"))
        return self.study.ask({key: number.distribution() for key, number in self.numbers.items()})

    def overrides(self, params: Mapping[str, float]) -> list[str]:
        """A trial's numbers as overrides; numbers that are as in the files are left out."""
        return [word(key, value) for key, value in params.items() if value != self.numbers[key].default]

    def tell(self, trial: Trial, answer: Mapping[str, Any]) -> None:
        """Give optuna the primary figure on validation samples, or tell it that the trial failed."""
        if (value := answer.get("validation")) is None:
            trial.set_user_attr("error", answer.get("error", "it ended without a result"))
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, value)

    @property
    def method(self) -> str:
        """Its name, with what was changed where several have it."""
        return f"{self.label} {self.changed}".rstrip()

    @property
    def best(self) -> FrozenTrial | None:
        """The trial with the best figure on validation samples; None where none has ended well."""
        choose = max if self.task.higher_is_better else min
        done = [trial for trial in self.slots().values() if trial.state == TrialState.COMPLETE]
        return choose(done, key=lambda trial: trial.value, default=None)

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The best trial's numbers as overrides; None where none has ended well."""
        return None if self.best is None else tuple(self.overrides(self.best.params))

    def confirmed(self, numbers: Sequence[str]) -> dict[int, Run]:
        """The runs with these numbers that are to confirm a choice, by seed."""
        kept = self.study.user_attrs.get(_confirming(numbers), {})
        return {int(seed): Run(*run) for seed, run in kept.items()}

    def primary(self, run: Run) -> Primary:
        """Such a run's figure."""
        return Primary(name=self.task.primary, value=run.test, higher_is_better=self.task.higher_is_better)

    def confirm(self, numbers: Sequence[str], seed: int, answer: Mapping[str, Any]) -> None:
        """Keep such a run; one that failed is asked for again by the next command."""
        if "test" in answer:
            known = {str(one): run for one, run in self.confirmed(numbers).items()}
            self.study.set_user_attr(_confirming(numbers), known | {str(seed): [answer["test"], answer["run"]]})

    def confirming(self, numbers: Sequence[str], seed: int) -> list[str]:
        """The overrides of such a run: without the sweep's name, by which trials are known and left out of reports."""
        return [*ordinary(self.words, numbers), f"seed={seed}", *COMPOSED]

    def outcome(self) -> Outcome:
        """The outcome so far."""
        slots = self.slots()
        done = [trial for trial in slots.values() if trial.state == TrialState.COMPLETE]
        failed = sum(trial.state == TrialState.FAIL for trial in slots.values())
        first, best = slots.get(0), self.best
        return Outcome(
            method=self.method,
            primary=self.task.primary,
            values=[trial.value for trial in done],
            failed=failed,
            default=first.value if first in done else None,
            best=best and best.value,
            words=[] if best is None else ordinary(self.words, self.chosen),
        )


def _confirming(numbers: Sequence[str]) -> str:
    return " ".join(["confirmed", *numbers])


def open_study(folder: Path, name: str, locks: ExitStack, *, higher_is_better: bool) -> Study:
    """The study of that name, held by this process alone until `locks` are released."""
    with writable(folder, "paths.runs=…"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            locks.enter_context(FileLock(folder / f"{name}.lock", timeout=0))
        except Timeout as error:
            where = f"{folder}/{name}.log"
            raise UserError(f"another command tunes the same ({where}); wait for it, or change paths.runs=…") from error
        storage = JournalStorage(JournalFileBackend(str(folder / f"{name}.log")))
    direction = "maximize" if higher_is_better else "minimize"
    return optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)


def ordinary(words: Sequence[str], numbers: Sequence[str]) -> list[str]:
    """The overrides of an ordinary run of a method with these numbers, without a seed.

    It gets no baseline, which would be the student alone with the method's numbers, and not the tuned one.
    """
    left_out = {"sweep", "seed", "baseline", *(word.partition("=")[0] for word in numbers)}
    kept = [word for word in words if word.partition("=")[0] not in left_out]
    return [*kept, *numbers, "baseline=false"]
