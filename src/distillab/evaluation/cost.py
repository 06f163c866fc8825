"""What a distillation cost, what it brought for that, and when it has paid for itself."""

import math
from itertools import pairwise
from typing import Any

from distillab.core.configuration import Prices
from distillab.core.cost_parts import Cost, EqualCompute, StepCost, TeacherOutputs
from distillab.core.result import Result
from distillab.core.result_parts import Efficiency, Training
from distillab.evaluation.payback import roi

CLOSE = 0.05  # share by which a step may differ from the student's own where equal steps are taken as equal cost
# Why a scheme's gain at equal cost is not known.
UNKNOWN = {
    "imported": "what the server took to score the text is unknown here, as are the teacher's size, speed and quality"
}


def with_cost(result: Result, prices: Prices | None) -> Result:
    """The result with its `cost` by these prices; a student alone has none."""
    taught = result.teacher or result.baseline  # a scheme without a fixed teacher has the baseline only
    return result.changed(cost=cost(result, prices) if taught else None)


def cost(result: Result, prices: Prices | None = None) -> Cost:
    """Where the time went, what the teacher's part of it was, and what distillation brought for it.

    `teacher_training_seconds` is 0 for a teacher that was given, as for one whose features alone teach; without a price there is
    no `roi`, without a baseline no `equal_compute`.
    """
    student, teacher = result.student, result.teacher
    outputs = _teacher_outputs(student.training, teacher and teacher.efficiency)
    # Of features that teach alone a fitted head says what they are worth, no more.
    judged = (result.config.get("teacher") or {}).get("adapt") == "none"
    # Of the networks that the one before them in the chain has taught; the last is the student.
    chain = pairwise(result.lineage[:-1])
    between = float(sum(made.seconds for before, made in chain if made.parent == before.name))
    # A warm cache replays what an earlier run computed; a run with an empty cache would compute it itself.
    hours = (student.training.total_seconds + (outputs.seconds_saved or 0.0) + between) / 3600
    return Cost(
        scheme=result.scheme,
        time=student.training.time,
        teacher_outputs=outputs,
        teacher_training_seconds=teacher and (0.0 if judged else float(teacher.training.total_seconds)),
        between_seconds=between,
        equal_compute=equal_compute(result) if result.scheme not in UNKNOWN and (result.baseline or teacher) else None,
        roi=roi(prices, teacher.efficiency, student.efficiency, hours, **_served(result))
        if teacher and prices
        else None,
    )


def _served(result: Result) -> dict[str, Any]:
    """Of language models that write: tokens a second are what is served, and what the teacher took is paid back too."""
    found = result.text.generation if result.text else {}
    if not {"teacher", "student"} <= found.keys():
        return {}
    training = result.student.training
    scoring = _teacher_outputs(training, result.teacher.efficiency)
    taught = result.teacher.training.total_seconds + scoring.seconds + (scoring.seconds_saved or 0.0)
    own = max(training.total_seconds - scoring.seconds, 0.0)
    rates = (found["teacher"].tokens_per_second, found["student"].tokens_per_second)
    steady = found["teacher"].steady and found["student"].steady
    return {"tokens": rates, "taught_hours": taught / 3600, "own_hours": own / 3600, "steady": steady}


def equal_compute(result: Result) -> EqualCompute:
    """The gain of a run for the same number of steps, and for the same cost.

    Cost is the run's whole step over that of the student alone (`schemes.charge`); a result without it, as earlier
    versions wrote them, has the gains alone. `epochs` is what this run cost, in epochs of the student alone, or, as the
    `unit` says, in steps where the recipe counts these: for each output of its teacher `live` or `cached`, as it computed
    or replayed it. A student that was trained longer, for a live teacher, stands for a cached one too where that costs as
    much; where its steps cost what the student's own cost, to within `CLOSE`, equal steps are equal cost. A student whose
    head was fitted afterwards has no such gains: over the student alone they would be the head's as well.
    """
    student, longer, primary = result.student, result.longer, result.primary
    step = longer and longer.step
    score, alone = longer.metrics.get(primary.name) if longer else None, result.score("baseline")
    equal_steps, live_gain = (
        None if each is None or result.head_fitted else primary.gain(primary.value, each) for each in (alone, score)
    )
    length = student.training.steps or student.training.epochs
    trained = longer and (longer.steps or longer.epochs)
    known = {"training_epochs": trained, "score": score, "unit": "steps" if student.training.steps else "epochs"}
    known |= {"gain_equal_steps": equal_steps, "gain_live": live_gain}
    if step is None:
        return EqualCompute(**known)
    cached, training = None, student.training
    if step.cached is not None and step.cached <= 1 + CLOSE:
        cached = equal_steps
    elif step.cached is not None and length is not None and _whole(length * step.cached) == trained:
        cached = live_gain
    computed, replayed = training.teacher_samples_computed, training.teacher_samples_replayed
    share = replayed / (computed + replayed) if replayed and step.cached is not None else 0.0
    spent = share * step.cached + (1 - share) * step.live if share else step.live
    return EqualCompute(
        live=step.live,
        cached=step.cached,
        multiply_adds=step.multiply_adds,
        by=step.by,
        used="cached" if share > 0.5 else "live",
        epochs=None if length is None else length * spent,
        cached_epochs=None if length is None or step.cached is None else length * step.cached,
        gain_warm_cache=cached,
        **known,
    )


def charged_length(length: int, step: StepCost, taught: int | None = None) -> int:
    """Epochs (or steps) of the student alone that cost as much as a run whose teacher is live in `taught` of its own, or in all.

    Rounded up, so that the student alone never gets less.
    """
    live = length if taught is None or step.cached is None else min(taught, length)
    return _whole(live * step.live + (length - live) * (step.cached or 0.0))


def _whole(length: float) -> int:
    """The next whole number of epochs; 10 × 1.1 are 11."""
    return math.ceil(length - 1e-9)


def _teacher_outputs(student: Training, teacher: Efficiency | None = None) -> TeacherOutputs:
    seconds, computed = float(student.teacher_seconds_computed), student.teacher_samples_computed
    replayed, throughput = student.teacher_samples_replayed, teacher and teacher.throughput
    saved = replayed * seconds / computed if computed else None
    if estimated := saved is None and bool(replayed and throughput):
        saved = replayed / throughput
    known = {"seconds": seconds, "samples": computed, "replayed": replayed}
    return TeacherOutputs(**known, seconds_saved=saved, estimated=estimated)
