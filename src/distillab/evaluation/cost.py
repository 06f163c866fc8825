"""What a distillation cost, what it brought for that, and when it has paid for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil
from typing import Any

from distillab.core.configuration import Roi

Entry = Mapping[str, Any]
TRAINING = 3  # forward passes whose arithmetic a training step takes: its backward pass takes two


def cost(
    student: Entry,
    teacher: Entry | None = None,
    baseline: Entry | None = None,
    longer: Mapping[str, Any] | None = None,
    roi_settings: Roi | Mapping[str, Any] | None = None,
    cached: bool = True,
    scheme: str = "offline",
    lineage: Sequence[Entry] = (),
) -> dict[str, Any]:
    """Where the time went, what the teacher's part of it was, and what distillation brought for it.

    Args:
        student: the student's entry of the result, with what `fit` and `measure` gave.
        teacher: likewise; None where nobody teaches.
        baseline: likewise; None where it was not trained.
        longer: of the student alone trained for equal compute `epochs`, `top1`, and the `teacher_multiply_adds` that
            they stand for; None where not trained.
        roi_settings: the config's `roi`.
        cached: whether the teacher's outputs can be replayed.
        scheme: who teaches whom.
        lineage: the networks of the run in the order of their training, each with its `parent` and `seconds`.

    Returns:
        `scheme`. `time`: seconds of the student's fit by part. `teacher_outputs`: `seconds` and `samples` computed,
        `replayed` samples, `seconds_saved` by replaying them, `estimated` where nothing was computed, so that the
        teacher's throughput must tell (None without one). `teacher_training_seconds`: 0 for a teacher that was given.
        `between_seconds`: of training the networks between the first and the student. `equal_compute` (None without a
        fixed teacher): as of `equal_compute`. `roi`: as of `roi`, None without a price.

    Raises:
        UserError: a price that is not allowed.
    """
    settings = Roi.of(roi_settings)
    outputs, between = _teacher_outputs(student, teacher), _between_seconds(lineage)
    priced = teacher is not None and settings.price_per_hour is not None
    return {
        "scheme": scheme,
        "time": student.get("time"),
        "teacher_outputs": outputs,
        "teacher_training_seconds": float(_seconds(teacher)) if teacher else None,
        "between_seconds": between,
        "equal_compute": equal_compute(student, teacher, baseline, longer, cached) if teacher else None,
        "roi": _roi_of(settings, student, teacher, outputs, between) if priced else None,
    }


def with_cost(result: Entry, roi_settings: Roi | Mapping[str, Any] | None) -> dict[str, Any]:
    """The result with its `cost` by these prices; a student alone has none."""
    roles = {role: result.get(role) for role in ("student", "teacher", "baseline")}
    about = {"longer": result.get("longer"), "cached": result.get("cache") is not None}
    about |= {"scheme": result.get("scheme", "offline"), "lineage": result.get("lineage") or ()}
    taught = roles["teacher"] or roles["baseline"]  # a scheme without a fixed teacher has the baseline only
    return {**result, "cost": cost(**roles, roi_settings=roi_settings, **about) if taught else None}


def equal_compute(
    student: Entry,
    teacher: Entry,
    baseline: Entry | None,
    longer: Mapping[str, Any] | None = None,
    cached: bool = True,
) -> dict[str, Any]:
    """The gain for the same number of steps, and for the same compute.

    Args:
        student, teacher, baseline, longer, cached: as of `cost`.

    Returns:
        `ratio`: what a live teacher adds to the student's own part of a step, `measured` in seconds or else by
        multiply-adds; `epochs` that the student alone could then have been trained, as a real number;
        `training_epochs`: those it was trained, and `top1` after so many; `gain_equal_steps`, `gain_live` (against that
        longer training) and `gain_warm_cache` (the teacher's share is nearly nothing then, so equal compute is equal
        steps; None where nothing can be replayed, or the student itself runs on several views), from -1 to 1.
    """
    counted = [entry.get("multiply_adds") for entry in (teacher, student)]
    if longer:  # who ran beside the student may be another than the teacher that the result shows
        counted[0] = longer["teacher_multiply_adds"]
    ratio = measured = _measured_ratio(student)
    if measured is None and None not in counted and counted[1] > 0:
        ratio = counted[0] / (TRAINING * counted[1])
    views, top1 = student.get("views", 1), student["top1"]
    equal_steps = None if baseline is None else top1 - baseline["top1"]
    return {
        "ratio": ratio,
        "measured": measured is not None,
        "epochs": None if ratio is None else student["epochs"] * views * (1 + ratio),
        "training_epochs": longer["epochs"] if longer else None,
        "top1": longer["top1"] if longer else None,
        "gain_equal_steps": equal_steps,
        "gain_live": top1 - longer["top1"] if longer else None,
        "gain_warm_cache": equal_steps if cached and views == 1 else None,
    }


def equal_compute_epochs(epochs: int, teacher_macs: int, student_macs: int, views: int = 1) -> int:
    """Epochs of the student alone that take the arithmetic of a distillation with a live teacher.

    A step costs the student three forward passes and the teacher one; the count is rounded up, so that the student
    alone never gets less than the distilled one.

    Args:
        epochs: of the distillation.
        teacher_macs, student_macs: multiply-adds of one sample's forward pass.
        views: of each sample, on which both run.
    """
    return epochs * views - (-epochs * views * teacher_macs) // (TRAINING * student_macs)


def roi(
    price_per_hour: float,
    requests_per_day: float | None,
    teacher_throughput: float,
    student_throughput: float,
    training_hours: float,
) -> dict[str, Any]:
    """Return on the distillation: what predictions cost with the teacher and with the student, and when it is earned.

    Both throughputs must come from the machine that the price is for, working all the time.

    Args:
        price_per_hour: of the machine, in any currency, for training and for predictions.
        requests_per_day: predictions a day; None leaves the days out.
        teacher_throughput, student_throughput: images per second.
        training_hours: of the distillation: the teacher's outputs, networks in between, and the student's training.
            The teacher exists anyway, and the baseline is trained for the comparison alone; neither is in it.

    Returns:
        `teacher_per_million`, `student_per_million`: the price of a million predictions; `distillation`: its price;
        `requests` and `days` after which it has paid for itself, None where it never does or a day has no requests.
    """
    teacher, student = (price_per_hour / 3600 * 1e6 / rate for rate in (teacher_throughput, student_throughput))
    price = price_per_hour * training_hours
    requests = ceil(round(1e6 * price / (teacher - student), 6)) if student < teacher else None
    return {
        "price_per_hour": price_per_hour,
        "requests_per_day": requests_per_day,
        "training_hours": training_hours,
        "teacher_per_million": teacher,
        "student_per_million": student,
        "distillation": price,
        "requests": requests,
        "days": requests / requests_per_day if requests is not None and requests_per_day else None,
    }


def _roi_of(
    settings: Roi, student: Entry, teacher: Entry, outputs: Mapping[str, Any], between: float
) -> dict[str, Any] | None:
    """The return of a run, at the throughputs measured in it; None where they were not."""
    rates = teacher.get("throughput"), student.get("throughput")
    if not all(rates):
        return None
    # A warm cache replays what an earlier run paid for; whoever starts with nothing pays it too.
    saved = outputs["seconds_saved"] or 0.0
    hours = (_seconds(student) + saved + between) / 3600
    found = roi(settings.price_per_hour, settings.requests_per_day, *rates, hours)
    return found | {"device": student.get("device"), "threads": student.get("threads")}


def _teacher_outputs(student: Entry, teacher: Entry | None = None) -> dict[str, Any]:
    seconds, computed, replayed = (
        student.get(f"teacher_{key}", 0) for key in ("seconds_computed", "samples_computed", "samples_replayed")
    )
    saved, throughput = replayed * seconds / computed if computed else None, (teacher or {}).get("throughput")
    estimated = saved is None and bool(replayed and throughput)
    if estimated:
        saved = replayed / throughput
    found = {"seconds": float(seconds), "samples": computed, "replayed": replayed}
    return found | {"seconds_saved": saved, "estimated": estimated}


def _between_seconds(lineage: Sequence[Entry]) -> float:
    """Seconds of training the networks that the one before them in the chain has taught; the last is the student."""
    chain = pairwise(lineage[:-1])
    return float(sum(made.get("seconds", 0.0) for before, made in chain if made.get("parent") == before["name"]))


def _measured_ratio(student: Entry) -> float | None:
    """Seconds of a live teacher over those of the student's own part of the steps, both measured in this fit."""
    outputs, time = _teacher_outputs(student), student.get("time")
    if not time or not time["student"] or not outputs["samples"]:
        return None
    return (outputs["seconds"] + outputs["seconds_saved"]) / time["student"]


def _seconds(entry: Entry) -> float:
    """Seconds of a fit, all its calls together; 0 where there was none."""
    return sum(entry["time"].values()) if entry.get("time") else entry.get("seconds", 0.0)
