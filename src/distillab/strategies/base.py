"""The interface of a loss term: a module with a weight, numbers that may follow a schedule, and declared needs."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.feature_extractor import MODEL_OUTPUTS
from distillab.models.feature_info import FeatureInfo

READABLE = {f"{role}.{name}" for role in ("student", "teacher") for name in MODEL_OUTPUTS}
READABLE |= {"batch.labels", "batch.index", "batch.views", "batch.written"}

Fields = SimpleNamespace  # of a model's outputs or of a batch, those that a term's `needs` name, and no others
Scheduled = float | Mapping[str, float]  # a number, or the arguments of a `Schedule`
TeacherPass = Callable[[], Iterator[tuple[Fields, Fields]]]  # runs the teacher over the data; see `Term.prepare`


class Outputs(list[Fields]):
    """The outputs of one model for each view of a batch: `outputs[1].logits`; `outputs.logits` is view 0."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self[0], name)


@dataclass(frozen=True)
class Schedule:
    """A number that changes over the training.

    All times are epochs, or, below 1, shares of the recipe's epochs, with the first of which they begin; with `steps` they
    are batches instead.
    """

    value: float  # the highest
    _: KW_ONLY
    warmup: float = 0  # time over which it rises linearly from value / warmup
    start: float = 0  # time before which it is 0; the other times count from there
    until: float | None = None  # time from which it is 0 again
    hold: float = 0  # time at the highest value, after the warm-up and before it falls
    cosine: float = 0  # time over which it then falls to 0 along a half cosine
    steps: bool = False  # times are batches, and the number changes with each of them

    def __call__(self, epoch: int, epochs: int) -> float:
        """The number in one epoch, counted from 0, of all `epochs`."""
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


def check_whole(least: int = 1, **numbers: int) -> None:
    """Refuse what is no whole number from `least`."""
    for name, value in numbers.items():
        if not isinstance(value, int) or value < least:
            raise UserError(f"{name} must be a whole number from {least}, got {value!r}")


@dataclass(eq=False, repr=False)
class Term(nn.Module):
    """One named loss of a strategy, and the `weight` by which it is multiplied.

    A subclass sets the class attributes and writes `rows`, where the loss is a mean over rows of logits (`rowwise`), or
    `feature_rows`, where it is one over rows of something else, or else `forward`. One that only calls a function with what it needs, in that order, and its numbers names it instead:
    `class PKT(Term, loss=pkt)`; a row-wise one calls its `rows`. The parameters (connectors) are trained and saved with
    the student. The arguments are called as in the loss; one that is `Scheduled` may be a schedule, and where nothing
    else is said `temperature` is above 0 and any other number a factor. A subclass writes an `__init__`, or declares
    `weight` and its other arguments with their defaults, as in a dataclass, and gets them checked: by a default of 2.0
    any number may be given, by one of 2 a whole number from 1.
    """

    needs: ClassVar[tuple[str, ...]] = ()  # what it reads, dotted names out of `READABLE`; it is handed nothing else
    kind: ClassVar[Literal["task", "distil"]] = "distil"  # it learns from labels, or from the teacher
    num_views: ClassVar[int] = 1  # of each sample that it reads; 2 are a weak and a strong one
    global_batch: ClassVar[bool] = False  # it compares samples, and is handed the tensors of all devices
    smallest_batch: ClassVar[int] = 1  # fewest samples that it can learn from at once, on each device
    rowwise: ClassVar[bool] = False  # it writes `rows` or `feature_rows`, and no `forward`
    pools: ClassVar[bool] = False  # its rows compare softmax(logits / temperature) alone: outputs may be taken as one
    needs_tail: ClassVar[bool] = False  # it must know how likely all outputs together are that a cache leaves out
    linear: ClassVar[bool] = False  # so its gradient is in softmax(teacher.logits) at temperature 1: draws have no bias
    ready_teacher: ClassVar[bool] = False  # `prepare` runs the teacher, which must be trained by then
    soft_labels: ClassVar[bool] = False  # it takes distributions as labels; default: whether it reads no label or index
    loss: ClassVar[Callable[..., Tensor]]  # the function that a subclass names
    above: ClassVar[Mapping[str, float]] = {}  # what declared numbers must be above; a temperature is above 0 anyway
    below: ClassVar[Mapping[str, float]] = {}  # what they must be below
    largest: ClassVar[int] = 0  # so many of the teacher's largest probabilities it must know one by one
    alignment: ClassVar[str | None] = None  # which positions of two tokenizers it compares; None: it needs one
    unequal_outputs: ClassVar[bool] = False  # student and teacher may have different numbers of outputs
    ships_head: ClassVar[bool] = False  # `deploy` ships the layer that makes the teacher's logits

    weight: Scheduled = 1.0

    def __init_subclass__(cls, loss: Callable[..., Tensor] | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if loss is not None:
            cls.loss = staticmethod(loss)
        if "weight" in vars(cls).get("__annotations__", {}):
            dataclass(eq=False, repr=False)(cls)
        if "needs" in vars(cls) and "soft_labels" not in vars(cls):
            cls.soft_labels = not {"batch.labels", "batch.index"} & set(cls.needs)

    def __post_init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}
        for name, default in ((argument.name, argument.default) for argument in fields(self)):
            above = self.above.get(name, 0 if name.endswith("temperature") else None)
            if type(default) is float:
                setattr(self, name, self.number(name, getattr(self, name), above, self.below.get(name)))
            elif type(default) is int:
                check_whole((above or 0) + 1, **{name: getattr(self, name)})

    def number(self, name: str, value: Any, above: float | None = None, below: float | None = None) -> float:
        """The checked value of a number, or of a schedule in epoch 0, which then sets the attribute in every epoch."""
        if isinstance(value, Mapping):
            keys = [key.name for key in fields(Schedule)]
            if set(value) - set(keys) or "value" not in value:
                raise UserError(f"{name} takes a number or {{{', '.join(keys)}}} with a value, got {dict(value)}")
            self.number(name, value["value"], above, below)
            self.schedules[name] = Schedule(**value)
            return self.schedules[name](0, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{name} must be a number, got {value!r}")
        if above is not None and value <= above:
            raise UserError(f"{name} must be a number above {above:g}, got {value:g}")
        if below is not None and value >= below:
            raise UserError(f"{name} must be a number below {below:g}, got {value:g}")
        return float(value)

    def numbers(self) -> dict[str, float]:
        """The declared numbers but `weight`, by name, as they are in this epoch."""
        declared = [argument.name for argument in fields(self) if type(argument.default) in (int, float)]
        return {name: getattr(self, name) for name in declared if name != "weight"}

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set every scheduled number to its value in this epoch, counted from 0, of all `epochs`."""
        for name, schedule in self.schedules.items():
            if not schedule.steps:
                setattr(self, name, schedule(epoch, epochs))

    def set_step(self, step: int, steps: int) -> None:
        """Set every number that is scheduled in steps to its value at this batch, counted from 0, of all `steps`."""
        for name, schedule in self.schedules.items():
            if schedule.steps:
                setattr(self, name, schedule(step, steps))

    def connect(self, student: FeatureInfo, teacher: FeatureInfo | None) -> None:
        """Build the connectors between the two models. Does nothing by default."""

    def join(self, terms: Mapping[str, "Term"]) -> None:
        """Find the strategy's other terms by name, after all of them are connected. Does nothing by default."""

    def prepare(self, labels: Tensor, teacher: TeacherPass) -> None:
        """Read the training data once, before the first epoch (and before a checkpoint is restored).

        `labels` are (n,) int64, by the samples' index. `teacher()` runs the teacher over the training samples without
        augmentation and yields, batch by batch, those of its outputs that the term needs, and `labels` and `index`.
        """

    @property
    def reads_logits(self) -> bool:
        """Whether it reads the teacher's logits."""
        return "teacher.logits" in self.needs

    @property
    def needs_head(self) -> bool:
        """Whether the teacher must have a head: its logits are read, or the layer that makes them is read or shipped."""
        return self.ships_head or self.reads_logits or "teacher.head" in self.needs

    @property
    def prepares(self) -> bool:
        """Whether `prepare` has something to do."""
        return type(self).prepare is not Term.prepare

    def after_step(self, loss: Tensor, progress: float) -> None:
        """Learn from an optimiser step in which the term acted with a weight; does nothing by default.

        `loss` is the term's unweighted one over the whole step, on all devices; `progress` is the share of the fit's
        steps that are done, from above 0 to 1.
        """

    @property
    def learns_from_steps(self) -> bool:
        """Whether `after_step` has something to do."""
        return type(self).after_step is not Term.after_step

    def row_weights(self, labels: Tensor) -> Tensor | None:
        """How much each row of a row-wise term counts in the mean, (R,); None counts all alike."""
        return None

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The unweighted loss, a scalar: by default `loss`, or the mean of `rows`."""
        if self.of_features:
            return self.feature_rows(student, teacher, batch).mean()
        if hasattr(type(self), "loss") and not self.rowwise:
            of = {"student": student, "teacher": teacher, "batch": batch}
            read = [getattr(of[owner], name) for owner, name in (need.split(".") for need in self.needs)]
            return self.loss(*read, **self.numbers())
        further = [getattr(batch, "written", None)] if "batch.written" in self.needs else []
        labels = getattr(batch, "labels", None)
        return self.rows(student.logits, getattr(teacher, "logits", None), labels, *further).mean()

    def rows(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor | None) -> Tensor:
        """The unweighted loss of each row, (R,), of logits (R, C) and labels (R,), which are None if not in `needs`.

        A term that needs `batch.written` is given it as a further argument: bool (R,), True where the student wrote the
        text; None where a batch does not say.
        """
        if not hasattr(type(self), "loss"):
            raise NotImplementedError(f"{type(self).__name__} writes neither forward nor rows")
        given = [given for given in (student_logits, teacher_logits, labels) if given is not None]
        return self.loss.rows(*given, **self.numbers())

    def feature_rows(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """The unweighted loss of each row of the batch that has a label, (R,), of a row-wise term that reads features."""
        raise NotImplementedError

    @property
    def of_features(self) -> bool:
        """Whether the rows are those of `feature_rows`."""
        return type(self).feature_rows is not Term.feature_rows

    def deploy(self, student: nn.Module, teacher: nn.Module | None) -> nn.Module:
        """The model to validate, count and export; the student by default."""
        return student


def choose_stage(stage: str | int, info: FeatureInfo, among: list[int]) -> int:
    """The number of the stage, one of `among`, that a word (first, middle, last), a number or a module path names.

    The middle one of three or four is the second, as in the hints of the literature; of two it is the last.
    """
    names = {info.stages[i].name: i for i in among}
    middle = min(max((len(among) - 1) // 2, 1), len(among) - 1)
    words = names | {"first": among[0], "middle": among[middle], "last": among[-1]}
    if stage in words:
        return words[stage]
    if isinstance(stage, int) and not isinstance(stage, bool) and 0 <= stage < len(among):
        return among[stage]
    raise UserError(
        f'{info.name} has no stage "{stage}"; allowed: first, middle, last, a number from 0 to {len(among) - 1}, '
        f"or one of {', '.join(names)}"
    )
