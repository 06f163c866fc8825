"""The study of one method: its budget, the next trial, the outcome; kept in a file, so that a cut-off one goes on.

The one module that needs optuna, and takes its time to import.
"""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from distillab.tasks.base import Task


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


@dataclass
class Tuned:
    """One method with its study."""

    label: str
    task: Task  # whose primary figure is tuned
    words: list[str]  # its overrides, without those of a trial
    numbers: Mapping[str, Number]  # what its trials vary, by dotted key
    study: Study
    trials: int  # how many it gets
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
            trial.set_user_attr("test", answer["test"])
            self.study.tell(trial, value)

    def outcome(self) -> Outcome:
        """The outcome so far."""
        slots = self.slots()
        done = [trial for trial in slots.values() if trial.state == TrialState.COMPLETE]
        failed = sum(trial.state == TrialState.FAIL for trial in slots.values())
        choose = max if self.task.higher_is_better else min
        first, best = slots.get(0), choose(done, key=lambda trial: trial.value, default=None)
        return Outcome(
            method=f"{self.label} {self.changed}".rstrip(),
            primary=self.task.primary,
            values=[trial.value for trial in done],
            failed=failed,
            default=first.value if first in done else None,
            best=best and best.value,
            test=best and best.user_attrs["test"],
            words=[] if best is None else repeated(self.words, self.overrides(best.params)),
        )


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


def repeated(words: Sequence[str], numbers: Sequence[str]) -> list[str]:
    """The overrides that train a method with its best numbers for three seeds.

    It gets no baseline, which would be the student alone with the method's numbers, and not the tuned one.
    """
    left_out = {"sweep", "seed", *(word.partition("=")[0] for word in numbers)}
    kept = [word for word in words if word.partition("=")[0] not in left_out]
    return ["sweep=seeds", *kept, *numbers, "baseline=false"]
