"""What a result is made of; every figure is finite, and what a run did not measure is None."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

from distillab.core.files import plain


def _known(figures: Any) -> Any:
    """The figures that are there: a loss that has diverged is left out, as null stands for it in a file."""
    if not isinstance(figures, Mapping):
        return figures
    return {key: value for key, value in plain(figures).items() if value is not None}


STEADY = 0.15  # the share by which repeated timings may differ; above it the machine was too busy to say
Number = int | FiniteFloat
Figures = Annotated[dict[str, Number], BeforeValidator(_known)]


class Part(BaseModel):
    """A part of a result; keys of later versions are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Primary(Part):
    """The figure by which runs are ranked, paired and tested: the student's, on test."""

    name: str
    value: Number
    higher_is_better: bool = True

    def gain(self, value: float, over: float) -> float:
        """How much better a value is than another one."""
        return value - over if self.higher_is_better else over - value


class Efficiency(Part):
    """What a network costs to deploy, and where that was measured; as of `efficiency.measure`."""

    parameters: int = Field(gt=0)
    multiply_adds: int | None = None
    latency_ms: Number | None = None
    latency_p95_ms: Number | None = None
    latency_batch_ms: Number | None = None
    latency_batch_p95_ms: Number | None = None
    throughput: Number | None = None
    latency_spread: Number | None = None
    peak_memory_bytes: int | None = None
    size_bytes: int | None = None
    threads: int | None = None
    device: str | None = None

    @property
    def steady(self) -> bool:
        """Whether the timings can be relied on; those of older results, without a spread, are taken as they are."""
        return self.latency_spread is None or self.latency_spread <= STEADY


class Training(Part):
    """The origin of a network's weights: its fit, or their source."""

    seconds: Number = 0.0
    epochs: int | None = None
    steps: int | None = None  # where the recipe counts these: the last epoch may be cut
    epoch: int | None = None
    resumed: bool | None = None
    reused: bool | None = None
    curves: list[dict[str, Number | None]] = []
    time: dict[str, Number] | None = None
    teacher_seconds_computed: Number = 0
    teacher_samples_computed: Number = 0
    teacher_samples_replayed: Number = 0
    views: int = 1
    checkpoints: str | None = None
    source: str | None = None
    seen_validation: str | None = None
    other_order: dict[str, Any] | None = None

    @property
    def total_seconds(self) -> float:
        """Seconds of the fit, all its calls together; 0 where there was none."""
        return sum(self.time.values()) if self.time else self.seconds


class Estimate(Part):
    """A figure or a difference on the test samples: its 95 % interval, and the two-sided p of zero where it is tested."""

    value: Number
    low: Number
    high: Number
    p: Number | None = None


class Excess(Part):
    """How many more of the teacher's `errors` a student repeats than its reference, which never saw the teacher.

    `low` and `high` are the 95 % interval of this number over samples like these, by the paired difference.
    """

    errors: int
    repeated: int
    repeated_alone: int
    low: Number
    high: Number

    @property
    def value(self) -> int:
        """The difference of the numbers."""
        return self.repeated - self.repeated_alone


class Calibration(Part):
    """A network's calibration error on the test samples; as of `calibration.calibration`.

    `low` and `high` are its 95 % interval. A calibrated network with the same confidences has `expected` on so many
    samples, and at most `most` in 95 of 100 cases; `p` is the chance that it has as much as this one.
    """

    value: Number
    low: Number
    high: Number
    expected: Number
    most: Number
    p: Number


class Features(Part):
    """The test accuracy of a network's features by nearest neighbours and by a linear probe, from so many labelled samples."""

    neighbours: Number
    probe: Number
    samples: int


class AgainstAlone(Part):
    """The student's figures less those of its reference on the same samples; above zero is worse."""

    nll: Estimate | None = None
    calibration_error: Estimate | None = None

    @property
    def spoiled(self) -> list[str]:
        """The figures that are shown to be worse."""
        return [key for key in type(self).model_fields if (one := getattr(self, key)) is not None and one.low > 0]


class AgainstTeacher(Part):
    """Agreement of a student's predictions with its teacher's; as of `metrics.against_teacher`."""

    agreement: Number | None = None
    kl: Number | None = None
    teacher_errors: int | None = None
    repeated_errors: Number | None = None
    excess: Excess | None = None  # of the student over its reference
    repeated_by_chance: Number | None = None  # of earlier versions alone


class Entry(Part):
    """One role's network: `metrics` on test, `validation` on the validation samples, both by the metric's name."""

    name: str
    metrics: Figures
    validation: Figures = {}
    per_class: list[Number | None] | None = None
    intervals: dict[str, Estimate] = {}  # of metrics over the test samples, by their names
    calibration: Calibration | None = None
    against_teacher: AgainstTeacher | None = None
    efficiency: Efficiency
    training: Training = Training()

    def figure(self, key: str) -> float | None:
        """A figure of its test, its deployment or its agreement with the teacher, by its key."""
        if key in self.metrics:
            return self.metrics[key]
        value = getattr(self.efficiency, key, None)
        return getattr(self.against_teacher, key, None) if value is None else value


class Data(Part):
    """The data set, and how many samples each split has; `labelled` ones of `train` where not all are."""

    name: str
    fingerprint: str | None = None  # of the data set and its test samples; None in results of earlier versions
    classes: int | None = None
    class_names: list[str] = []
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    labelled: int | None = None


class Trained(Part):
    """One network of the run's lineage; without a `parent` it learned from the labels alone."""

    name: str
    parent: str | None = None
    metrics: Figures = {}
    validation: Figures = {}
    seconds: Number = 0.0
    reused: bool | None = None


class LimitsLine(Part):
    """Accuracies on one class or bin; `change` is distilled minus alone, the run's reference, with its 95 % interval."""

    name: str
    samples: int
    teacher: Number
    alone: Number
    distilled: Number
    change: Number
    low: Number
    high: Number


class Limits(Part):
    """What the teacher cannot teach; as of `limits.limits`."""

    classes: list[LimitsLine] = []
    bins: list[LimitsLine] = []
    hurt: list[str] = []
    alone: str = "student alone"  # what `alone` of the lines is
    sentences: list[str] = []


class Paired(Part):
    """Student and reference on the same test samples, of a text its `documents`; as of `statistics.paired_samples`."""

    documents: int | None = None
    only_student_right: int | None = None
    only_baseline_right: int | None = None
    value: Number | None = None
    p: Number | None = None
    low: Number | None = None
    high: Number | None = None
