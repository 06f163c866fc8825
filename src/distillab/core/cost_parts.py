"""The parts of a result that say what the run cost, and what training longer brings for the same."""

from typing import Literal

from distillab.core.result_parts import Figures, Number, Part


class StepCost(Part):
    """The cost of a run's whole training step, in steps of the student alone; as of `schemes.charge.charge`."""

    by: str = "seconds"  # or multiply_adds, which needs no clock
    live: Number  # with the teacher run in the step
    cached: Number | None = None  # with its outputs replayed; None where they cannot be
    multiply_adds: Number | None = None  # of `live`, by the arithmetic of both steps alone
    seconds: Number | None = None  # of a step of the student alone
    rounds: int = 0  # of timed steps, whose median counts


class Longer(Part):
    """The student alone, trained for the cost of a run that computes the teacher's outputs itself.

    `steps` are known where the recipe counts these.
    """

    epochs: int
    steps: int | None = None
    metrics: Figures = {}
    step: StepCost | None = None  # None in results of earlier versions
    # Epochs, or steps, in which the teacher must run: samples that look the same are replayed from then on; None: all.
    taught: int | None = None


class TeacherOutputs(Part):
    """Outputs computed and replayed; `estimated`: `seconds_saved` follows from the teacher's throughput."""

    seconds: Number = 0.0
    samples: Number = 0
    replayed: Number = 0
    seconds_saved: Number | None = None
    estimated: bool = False


class EqualCompute(Part):
    """The gain for the same number of steps, and for the same cost; as of `cost.equal_compute`."""

    live: Number | None = None  # cost of a step, in steps of the student alone: the three figures of `StepCost`
    cached: Number | None = None
    multiply_adds: Number | None = None
    by: str | None = None
    used: Literal["live", "cached"] | None = None  # where this run took most of the teacher's outputs from
    epochs: Number | None = None  # of the student alone that cost what this run did
    cached_epochs: Number | None = None  # and what it costs with all outputs replayed
    training_epochs: int | None = None  # those that the student trained longer had, for a live teacher
    unit: str = "epochs"  # or steps, of all three
    score: Number | None = None
    gain_equal_steps: Number | None = None
    gain_live: Number | None = None  # over the student trained longer
    gain_warm_cache: Number | None = (
        None  # at the cost of a step with replayed outputs; None where none was trained for it
    )


class Roi(Part):
    """Return on the distillation; as of `cost.roi`. Of models that write, `unit` is `tokens`, else a request is an input."""

    price_per_hour: Number
    requests_per_day: Number | None = None
    training_hours: Number
    teacher_per_million: Number
    student_per_million: Number
    distillation: Number
    requests: int | None = None
    days: Number | None = None
    unit: str | None = None
    with_teacher: int | None = None
    students: int | None = None
    device: str | None = None
    threads: int | None = None
    steady: bool = True  # False where the timings that this follows from differed when repeated


class Cost(Part):
    """Seconds by part, and the gain for them; as of `cost.cost`."""

    scheme: str = "offline"
    time: dict[str, Number] | None = None
    teacher_outputs: TeacherOutputs = TeacherOutputs()
    teacher_training_seconds: Number | None = None
    between_seconds: Number = 0.0
    equal_compute: EqualCompute | None = None
    roi: Roi | None = None
