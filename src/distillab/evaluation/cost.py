"""What a distillation cost, what it brought for that, and when it has paid for itself."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

from distillab.core.configuration import Prices
from distillab.core.result import Result
from distillab.core.result_parts import Cost, Efficiency, EqualCompute, Roi, TeacherOutputs, Training

TRAINING = 3  # forward passes whose arithmetic a training step takes: its backward pass takes two


def with_cost(result: Result, prices: Prices | None) -> Result:
    """The result with its `cost` by these prices; a student alone has none."""
    taught = result.teacher or result.baseline  # a scheme without a fixed teacher has the baseline only
    return result.changed(cost=cost(result, prices) if taught else None)


def cost(result: Result, prices: Prices | None = None) -> Cost:
    """Where the time went, what the teacher's part of it was, and what distillation brought for it.

    `teacher_training_seconds` is 0 for a teacher that was given; without a price there is no `roi`, without a fixed teacher
    no `equal_compute`.
    """
    student, teacher = result.student, result.teacher
    outputs = _teacher_outputs(student.training, teacher and teacher.efficiency)
    # Of the networks that the one before them in the chain has taught; the last is the student.
    chain = pairwise(result.lineage[:-1])
    between = float(sum(made.seconds for before, made in chain if made.parent == before.name))
    # A warm cache replays what an earlier run computed; a run with an empty cache would compute it itself.
    hours = (student.training.total_seconds + (outputs.seconds_saved or 0.0) + between) / 3600
    return Cost(
        scheme=result.scheme,
        time=student.training.time,
        teacher_outputs=outputs,
        teacher_training_seconds=teacher and float(teacher.training.total_seconds),
        between_seconds=between,
        equal_compute=equal_compute(result) if teacher else None,
        roi=roi(prices, teacher.efficiency, student.efficiency, hours) if teacher and prices else None,
    )


def equal_compute(result: Result) -> EqualCompute:
    """The gain of a run with a fixed teacher for the same number of steps, and for the same compute.

    Returns:
        `ratio`: what a live teacher adds to the student's own part of a step, `measured` in seconds or else by
        multiply-adds; `epochs` that the student alone could then have been trained, as a real number;
        `training_epochs`: those it was trained, and its `score` after so many; `gain_live`, against that longer training;
        `gain_warm_cache`: the teacher's share is nearly nothing then, so equal compute is equal steps; None where nothing
        can be replayed, or the student itself runs on several views.
    """
    student, longer, primary = result.student, result.longer, result.primary
    # The network that ran beside the student may be another than the teacher that the result shows.
    beside = longer.teacher_multiply_adds if longer else result.teacher.efficiency.multiply_adds
    ratio = measured = _measured_ratio(student.training)
    if measured is None and beside is not None and student.efficiency.multiply_adds:
        ratio = beside / (TRAINING * student.efficiency.multiply_adds)
    views, epochs = student.training.views, student.training.epochs
    equal_steps = primary.gain(primary.value, result.score("baseline")) if result.baseline else None
    score = longer.metrics.get(primary.name) if longer else None
    return EqualCompute(
        ratio=ratio,
        measured=measured is not None,
        epochs=None if ratio is None or epochs is None else epochs * views * (1 + ratio),
        training_epochs=longer and longer.epochs,
        score=score,
        gain_equal_steps=equal_steps,
        gain_live=None if score is None else primary.gain(primary.value, score),
        gain_warm_cache=equal_steps if result.cache is not None and views == 1 else None,
    )


def equal_compute_epochs(epochs: int, teacher_macs: int, student_macs: int, views: int = 1) -> int:
    """Epochs of the student alone that take the arithmetic of a distillation with a live teacher on so many views.

    A step costs the student three forward passes and the teacher one; the count is rounded up, so that the student
    alone never gets less than the distilled one.
    """
    return epochs * views - (-epochs * views * teacher_macs) // (TRAINING * student_macs)


def roi(prices: Prices, teacher: Efficiency, student: Efficiency, training_hours: float) -> Roi | None:
    """What predictions cost with the teacher and with the student, at the throughputs measured, and when it is earned.

    `training_hours` are of the teacher's outputs, networks in between, and the student's training. The teacher exists
    anyway, and the baseline is trained for the comparison alone; neither is in it.

    Returns:
        None without a price or throughputs; `requests` and `days` are None where it never pays for itself or a day has no
        requests.
    """
    if prices.price_per_hour is None or not teacher.throughput or not student.throughput:
        return None
    rates = teacher.throughput, student.throughput
    with_teacher, with_student = (prices.price_per_hour / 3600 * 1e6 / rate for rate in rates)
    price = prices.price_per_hour * training_hours
    requests = ceil(round(1e6 * price / (with_teacher - with_student), 6)) if with_student < with_teacher else None
    return Roi(
        price_per_hour=prices.price_per_hour,
        requests_per_day=prices.requests_per_day,
        training_hours=training_hours,
        teacher_per_million=with_teacher,
        student_per_million=with_student,
        distillation=price,
        requests=requests,
        days=requests / prices.requests_per_day if requests is not None and prices.requests_per_day else None,
        device=student.device,
        threads=student.threads,
    )


def _teacher_outputs(student: Training, teacher: Efficiency | None = None) -> TeacherOutputs:
    seconds, computed = float(student.teacher_seconds_computed), student.teacher_samples_computed
    replayed, throughput = student.teacher_samples_replayed, teacher and teacher.throughput
    saved = replayed * seconds / computed if computed else None
    if estimated := saved is None and bool(replayed and throughput):
        saved = replayed / throughput
    known = {"seconds": seconds, "samples": computed, "replayed": replayed}
    return TeacherOutputs(**known, seconds_saved=saved, estimated=estimated)


def _measured_ratio(student: Training) -> float | None:
    """Seconds of a live teacher over those of the student's own part of the steps, both measured in this fit."""
    outputs = _teacher_outputs(student)
    if not student.time or not student.time["student"] or not outputs.samples:
        return None
    return (outputs.seconds + outputs.seconds_saved) / student.time["student"]
