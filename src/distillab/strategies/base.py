"""What every loss term is: a module with a weight, numbers that may follow a schedule, and declared needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.feature_extractor import MODEL_OUTPUTS
from distillab.models.feature_info import FeatureInfo

READABLE = {f"{role}.{name}" for role in ("student", "teacher") for name in MODEL_OUTPUTS} | {
    "batch.labels",
    "batch.index",
}


class Outputs:
    """What one model gave for each view of a batch: `outputs[1].logits`; `outputs.logits` is view 0."""

    def __init__(self, views: list[SimpleNamespace]) -> None:
        self._views = views

    def __getitem__(self, view: int) -> SimpleNamespace:
        return self._views[view]

    def __len__(self) -> int:
        return len(self._views)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._views[0], name)


class Schedule:
    """A number that changes over the epochs. All times are epochs, or, below 1, shares of the recipe's epochs.

    Args:
        value: what it is at its fullest.
        warmup: over this time it rises linearly from value / warmup.
        start: before it is 0; the other numbers count from there.
        until: from here on it is 0 again.
        hold: so long it is at its fullest, after any warm-up, before it falls.
        cosine: over this time it then falls to 0 along a half cosine.
    """

    KEYS = ("value", "warmup", "start", "until", "hold", "cosine")

    def __init__(
        self,
        value: float,
        warmup: float = 0,
        start: float = 0,
        until: float | None = None,
        hold: float = 0,
        cosine: float = 0,
    ) -> None:
        self.value, self.warmup, self.start, self.until = value, warmup, start, until
        self.hold, self.cosine = hold, cosine

    def __call__(self, epoch: int, epochs: int) -> float:
        """The number in an epoch, counted from 0, of so many."""
        times = (self.warmup, self.start, self.hold, self.cosine)
        warmup, start, hold, cosine = (whole_epochs(time, epochs) for time in times)
        if epoch < start or (self.until is not None and epoch >= whole_epochs(self.until, epochs)):
            return 0.0
        epoch -= start
        if epoch < warmup:
            return self.value * (epoch + 1) / warmup
        if cosine:
            passed = min(max(epoch - warmup - hold, 0) / cosine, 1.0)
            return self.value * 0.5 * (1 + math.cos(math.pi * passed))
        return self.value


def whole_epochs(time: float, epochs: int) -> int:
    """A time in epochs; below 1 it is a share of `epochs`, of which at least one is taken."""
    return max(1, round(time * epochs)) if 0 < time < 1 else int(time)


class Term(nn.Module):
    """One named loss of a strategy.

    A subclass sets the class attributes and writes `forward`, or `rows` where the loss is a mean over samples.
    Its parameters (connectors) are trained and saved with the student.

    Attributes:
        needs: the dotted names that `forward` or `prepare` reads, out of `READABLE`; nothing else is handed over.
        kind: `task` (learns from labels) or `distil` (learns from the teacher).
        views: how many views of each sample it wants: 2 are a weak and a strong one.
        global_batch: True where samples are compared with each other: under many devices it is handed the tensors of
            all of them.
        smallest_batch: how many samples it must see at once, on each device.
        rowwise: True where `rows` gives one value per sample.
        ready_teacher: True where `prepare` asks the teacher, who must know something by then.
        soft_labels: True where samples may be mixed, and `batch.labels` be distributions; unless said, True of a term
            that reads neither labels nor index.
        weight: factor of the term in the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[Literal["task", "distil"]] = "distil"
    views: ClassVar[int] = 1
    global_batch: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1
    rowwise: ClassVar[bool] = False
    ready_teacher: ClassVar[bool] = False
    soft_labels: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "needs" in vars(cls) and "soft_labels" not in vars(cls):
            cls.soft_labels = not {"batch.labels", "batch.index"} & set(cls.needs)

    def __init__(self, weight: float | Mapping[str, float] = 1.0) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}
        self.weight = self.number("weight", weight)

    def number(self, name: str, value: Any, above: float | None = None) -> float:
        """Check a number, which may be a mapping for a `Schedule`, and give its value in epoch 0.

        Args:
            name: the attribute under which the term keeps it.
            value: a number, or {value, warmup, start, until, hold, cosine}.
            above: the number must be larger than this.

        Raises:
            UserError: not a number, not finite, too small, or an unknown key.
        """
        if isinstance(value, Mapping):
            unknown = set(value) - set(Schedule.KEYS)
            if unknown or "value" not in value:
                raise UserError(
                    f"{name} takes a number or {{{', '.join(Schedule.KEYS)}}} with a value, got {dict(value)}"
                )
            self.number(name, value["value"], above)
            self.schedules[name] = Schedule(**value)
            return self.schedules[name](0, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{name} must be a number, got {value!r}")
        if above is not None and value <= above:
            raise UserError(f"{name} must be a number above {above:g}, got {value:g}")
        return float(value)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Move every scheduled number to its value in this epoch, counted from 0, of so many."""
        for name, schedule in self.schedules.items():
            setattr(self, name, schedule(epoch, epochs))

    def connect(self, student: FeatureInfo, teacher: FeatureInfo | None) -> None:
        """Build what lies between the two models (connectors), from their specs. Nothing, unless said."""

    def join(self, terms: Mapping[str, Term]) -> None:
        """Meet the strategy's other terms by name, after all of them are connected. Nothing, unless said."""

    def prepare(self, labels: Tensor, teacher: Callable[[], Iterator[tuple[SimpleNamespace, SimpleNamespace]]]) -> None:
        """Look at the training data once, before the first epoch (and before a checkpoint is restored).

        Args:
            labels: (n,) int64 of every training sample, by its index.
            teacher: call it to run the teacher over the training images as they are; yields, batch by batch, what the
                term needs of the teacher, and `labels` and `index` of the batch.
        """

    def forward(self, student: Outputs, teacher: Outputs, batch: SimpleNamespace) -> Tensor:
        """The unweighted loss, a scalar."""
        rows = self.rows(student.logits, getattr(teacher, "logits", None), getattr(batch, "labels", None))
        return rows.mean()

    def rows(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """The unweighted loss of each sample, (N,)."""
        raise NotImplementedError(f"{type(self).__name__} writes neither forward nor rows")

    def deploy(self, student: nn.Module, teacher: nn.Module | None) -> nn.Module:
        """What is validated, counted and exported in the end: the student, unless said."""
        return student


def choose_stage(stage: str | int, spec: FeatureInfo, among: list[int]) -> int:
    """The stage number that a word (`first`, `middle`, `last`), a number or a module path means.

    Args:
        stage: the word, number or path.
        spec: the model whose stages are meant.
        among: the stage numbers that have a partner in the other model.

    Raises:
        UserError: no such stage; the model's stages are shown.
    """
    words = {"first": among[0], "middle": among[len(among) // 2], "last": among[-1]}
    names = {spec.stages[i].name: i for i in among}
    if stage in words:
        return words[stage]
    if stage in names:
        return names[stage]
    if isinstance(stage, int) and not isinstance(stage, bool) and 0 <= stage < len(among):
        return among[stage]
    raise UserError(
        f'{spec.name} has no stage "{stage}"; allowed: first, middle, last, a number from 0 to {len(among) - 1}, '
        f"or one of {', '.join(names)}"
    )
