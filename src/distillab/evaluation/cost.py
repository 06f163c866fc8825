"""What a distillation cost, what it brought for that, and when it has paid for itself; the same in words."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from distillab.core.configuration import Prices
from distillab.core.result import Result
from distillab.core.result_parts import Cost, Efficiency, EqualCompute, TeacherOutputs, Training
from distillab.evaluation.payback import roi, roi_words

TRAINING = 3  # forward passes whose arithmetic a training step takes: its backward pass takes two
# What a teacher has more of than its student: the figure's key, the word where it is more, the word where it is less.
RATIOS = {
    "parameters": ("fewer parameters", "more parameters"),
    "multiply_adds": ("fewer multiply-adds", "more multiply-adds"),
    "latency_ms": ("faster on one {}", "slower on one {}"),
    "latency_batch_ms": ("faster on a batch", "slower on a batch"),
    "peak_memory_bytes": ("less peak memory", "more peak memory"),
    "size_bytes": ("smaller on disk", "larger on disk"),
}
# Why a scheme's gain at equal compute is not known, where the reason is one of its own.
UNKNOWN = {
    "imported": "what the server took to score the text is unknown here, as are the teacher's size, speed and quality"
}


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
    return {"tokens": rates, "taught_hours": taught / 3600, "own_hours": own / 3600}


def equal_compute(result: Result) -> EqualCompute:
    """The gain of a run with a fixed teacher for the same number of steps, and for the same compute.

    Returns:
        `ratio`: what a live teacher adds to the student's own part of a step, `measured` in seconds or else by
        multiply-adds; `epochs` that the student alone could then have been trained, as a real number, or, as the `unit`
        says, steps where the recipe counts these; `training_epochs`: those it was trained, and its `score` after so many; `gain_live`, against that longer training;
        `gain_warm_cache`: the teacher's share is nearly nothing then, so equal compute is equal steps; None where nothing
        can be replayed, or the student itself runs on several views.
    """
    student, longer, primary = result.student, result.longer, result.primary
    # The network that ran beside the student may be another than the teacher that the result shows.
    beside = longer.teacher_multiply_adds if longer else result.teacher.efficiency.multiply_adds
    ratio = measured = _measured_ratio(student.training)
    if measured is None and beside is not None and student.efficiency.multiply_adds:
        ratio = beside / (TRAINING * student.efficiency.multiply_adds)
    views, epochs = student.training.views, student.training.steps or student.training.epochs
    equal_steps = primary.gain(primary.value, result.score("baseline")) if result.baseline else None
    score = longer.metrics.get(primary.name) if longer else None
    return EqualCompute(
        ratio=ratio,
        measured=measured is not None,
        epochs=None
        if ratio is None or epochs is None
        else views * (epochs + ((longer and longer.taught) or epochs) * ratio),
        training_epochs=longer and (longer.steps or longer.epochs),
        unit="steps" if student.training.steps else "epochs",
        score=score,
        gain_equal_steps=equal_steps,
        gain_live=None if score is None else primary.gain(primary.value, score),
        # What the student writes is read by a live teacher.
        gain_warm_cache=equal_steps
        if result.cache is not None and views == 1 and not _writing(student.training)
        else None,
    )


def equal_compute_length(
    length: int, teacher_macs: int, student_macs: int, views: int = 1, *, taught: int | None = None
) -> int:
    """Epochs (or steps) of the student alone that take the arithmetic of a distillation with a live teacher on so many views.

    A step costs the student three forward passes and the teacher one; the count is rounded up, so that the student
    alone never gets less than the distilled one. The teacher runs in `taught` of them, or in all.
    """
    passes = (length if taught is None else taught) * views
    return length * views - (-passes * teacher_macs) // (TRAINING * student_macs)


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
    return (outputs.seconds + outputs.seconds_saved + _writing(student)) / student.time["student"]


def _writing(student: Training) -> float:
    """Seconds in which a student has written text to learn from."""
    return (student.time or {}).get("writing", 0.0)


def words(found: Cost, gain: Callable[[float, int], str]) -> list[str]:
    """What `cost` found, in sentences; those of which nothing is known are left out.

    `gain` writes a gain of the primary figure with so many digits and its unit.
    """
    said = [found.time and _time_words(found.time), _output_words(found.teacher_outputs)]
    if found.teacher_training_seconds:
        took = f"{found.teacher_training_seconds:,.1f} s"
        said.append(f"Training the teacher took {took}, once for all runs that share it.")
    if found.between_seconds:
        took = f"{found.between_seconds:,.1f} s"
        said.append(f"Training the networks in between took {took}, which no comparison charges.")
    said.append(found.equal_compute and _gain_words(found.equal_compute, gain))
    said.append(found.roi and roi_words(found.roi))
    if not found.equal_compute and found.scheme != "offline":
        why = UNKNOWN.get(found.scheme, "it has no fixed teacher to charge")
        said.append(f"The gain at equal compute was not measured for scheme={found.scheme}: {why}.")
    return list(filter(None, said))


def ratios(teacher: Efficiency, student: Efficiency) -> dict[str, float]:
    """How many times more of each thing the teacher takes than the student, by the keys of `RATIOS`.

    What was not measured for both of them is left out, as are latencies and the peak memory that were measured on
    different devices or threads, and latencies that were measured on a busy machine.
    """
    elsewhere = (teacher.device, teacher.threads) != (student.device, student.threads)
    unsure = ("latency", "peak") if elsewhere else () if teacher.steady and student.steady else ("latency",)
    found = {}
    for key in RATIOS:
        above, below = getattr(teacher, key), getattr(student, key)
        if above is not None and below and not key.startswith(unsure):
            found[key] = above / below
    return found


def in_words(found: dict[str, float], sample: str = "image") -> str:
    """The ratios for people, e.g. "272× fewer parameters, 12× faster on one image"."""
    parts = []
    for key, ratio in found.items():
        if ratio:
            times = max(ratio, 1 / ratio)
            number = f"{times:.3g}" if times < 1000 else f"{times:,.0f}"
            parts.append(f"{number}× {RATIOS[key][ratio < 1].format(sample)}")
    return ", ".join(parts)


def _time_words(time: dict[str, float]) -> str:
    total = sum(time.values()) or 1.0
    shares = ", ".join(f"{name} {100 * seconds / total:.0f} %" for name, seconds in time.items())
    return f"The student's training took {total:,.1f} s: {shares}."


def _output_words(outputs: TeacherOutputs) -> str:
    parts = []
    if outputs.samples:
        parts.append(f"{outputs.samples:,} teacher outputs were computed in {outputs.seconds:,.1f} s")
    if outputs.replayed:
        saved, what = outputs.seconds_saved, "" if parts else " teacher outputs"
        how = f"about {saved:,.1f} s, by the teacher's throughput" if outputs.estimated else f"{saved or 0:,.1f} s"
        which = f", which saved {how}" if saved else ""
        parts.append(f"{outputs.replayed:,}{what} came from the cache{which}")
    return "; ".join(parts) + "." if parts else ""


def _gain_words(equal: EqualCompute, gain: Callable[[float, int], str]) -> str:
    if equal.gain_equal_steps is None:
        return ""
    said = f"At equal steps distillation brought {gain(equal.gain_equal_steps, 2)}"
    said += ", and with a warm cache equal steps are equal compute." if equal.gain_warm_cache is not None else "."
    if equal.gain_live is not None:
        seconds = f" ({equal.epochs:.1f} by the seconds measured)" if equal.measured else ""
        epochs = f"{equal.training_epochs} {equal.unit} of the student alone by multiply-adds{seconds}"
        brought = f"against these it brought {gain(equal.gain_live, 2)}"
        return f"{said} With a live teacher, equal compute is {epochs}; {brought}."
    if equal.epochs is None:
        return said
    could = f"the student alone could have trained {equal.epochs:.1f} {equal.unit} for the same compute"
    return f"{said} With a live teacher, {could}; this was not tried."
