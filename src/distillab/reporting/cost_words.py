"""Every sentence about cost: of a run, of its steps, of what the teacher takes more than the student, of paying back."""

import math
from collections.abc import Callable

from distillab.core.cost_parts import Cost, EqualCompute, Roi, StepCost, TeacherOutputs
from distillab.core.result import Result
from distillab.core.result_parts import Efficiency
from distillab.evaluation.cost import CLOSE, UNKNOWN
from distillab.evaluation.payback import machine

# What a teacher has more of than its student: the figure's key, the word where it is more, the word where it is less.
RATIOS = {
    "parameters": ("fewer parameters", "more parameters"),
    "multiply_adds": ("fewer multiply-adds", "more multiply-adds"),
    "latency_ms": ("faster on one {}", "slower on one {}"),
    "latency_batch_ms": ("faster on a batch", "slower on a batch"),
    "peak_memory_bytes": ("less peak memory", "more peak memory"),
    "size_bytes": ("smaller on disk", "larger on disk"),
}


def words(found: Cost, gain: Callable[[float], str]) -> list[str]:
    """What `cost` found, in sentences; those of which nothing is known are left out.

    `gain` writes a gain of the primary figure with its unit.
    """
    said = [found.time and _time_words(found.time), _output_words(found.teacher_outputs)]
    if found.teacher_training_seconds:
        took = f"{found.teacher_training_seconds:,.1f} s"
        said.append(f"Training the teacher took {took}, once for all runs that share it.")
    if found.between_seconds:
        took = f"{found.between_seconds:,.1f} s"
        said.append(f"Training the networks in between took {took}, which no comparison charges.")
    said.append(found.equal_compute and _gain_words(found.equal_compute, gain))
    said.append(found.roi and _payback_words(found.roi))
    if found.scheme in UNKNOWN:
        said.append(f"The gain at equal cost was not measured for scheme={found.scheme}: {UNKNOWN[found.scheme]}.")
    return list(filter(None, said))


def cost_line(result: Result) -> str:
    """What a step of the run cost, and how long its training took, in one line for its end; empty where neither is known."""
    equal, time = result.cost and result.cost.equal_compute, result.cost and result.cost.time
    by = " by multiply-adds" if equal and equal.by == "multiply_adds" else ""
    told = (
        []
        if not equal or equal.live is None
        else [f"a step costs {equal.live:.3g} × the student's own{by} with a live teacher"]
    )
    if told and equal.cached is not None:
        used = " (used here)" if equal.used == "cached" else ""
        told.append(f"{equal.cached:.3g} × with cached outputs{used}")
    if time:
        told.append(f"{sum(time.values()):,.1f} s of training")
    if result.cost and result.cost.teacher_training_seconds:
        told.append(
            f"{result.cost.teacher_training_seconds:,.1f} s before it to train the teacher (or its head), once for all runs that share it"
        )
    if result.cost and result.cost.roi:
        told.append(earned(result.cost.roi))
    if result.cost and result.cost.scheme in UNKNOWN:
        told.append("what the teacher cost is unknown")
    return f"Cost: {', '.join(told)}." if told else ""


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


def step_words(step: StepCost) -> str:
    """What a step costs, for the line that is printed before the fit."""
    cached = "" if step.cached is None else f", {step.cached:.3g} × with replayed outputs"
    return f"{step.live:.3g} × the student's own{_by(step.by, step.multiply_adds)}{cached}"


def _by(by: str | None, multiply_adds: float | None) -> str:
    if by == "multiply_adds":
        return " by multiply-adds"
    return "" if multiply_adds is None else f" ({multiply_adds:.3g} × by multiply-adds)"


def _gain_words(equal: EqualCompute, gain: Callable[[float], str]) -> str:
    if equal.gain_equal_steps is None:
        return ""
    steps = f"At equal steps distillation brought {gain(equal.gain_equal_steps)}"
    if equal.gain_live is None:
        return f"{steps}; what its steps cost was not compared."
    longer = f"{gain(equal.gain_live)} against {equal.training_epochs} {equal.unit} alone"
    if equal.live is None:
        return f"{steps}; it brought {longer}."
    costs = f"a step costs {equal.live:.3g} × the student's own{_by(equal.by, equal.multiply_adds)}"
    live = f"live: {costs}: {longer}"
    if equal.cached is None:
        return f"{steps}; {live}."
    cached = f"cached: {_cached_words(equal, gain)}"
    if equal.used == "live":
        return f"{steps}; {live} (this run computed the teacher's outputs itself); {cached}."
    return f"{steps}; {cached} (this run took the teacher's outputs from the cache); {live}."


def _cached_words(equal: EqualCompute, gain: Callable[[float], str]) -> str:
    cost = f"{equal.cached:.3g} ×"
    if equal.gain_warm_cache is None:
        epochs = f"{'more' if equal.cached_epochs is None else f'{equal.cached_epochs:.1f}'} {equal.unit}"
        return f"{cost}: equal cost is {epochs} alone, which were not trained"
    if equal.cached > 1 + CLOSE:
        return f"{cost}: {gain(equal.gain_warm_cache)} against {equal.training_epochs} {equal.unit} alone"
    close = math.ceil(100 * abs(equal.cached - 1) - 1e-9)
    return f"{cost}: equal steps cost the same{f' to {close} %' if close else ''}: {gain(equal.gain_warm_cache)}"


def earned(found: Roi) -> str:
    """After how many predictions or tokens the distillation has paid for itself, in a few words."""
    what = found.unit or "predictions"
    sure = "" if found.steady else ", by timings that differed when repeated"
    return f"{'never paid back' if found.requests is None else f'paid back after {found.requests:,} {what}'}{sure}"


def _payback_words(found: Roi) -> str:
    """When a distillation has paid for itself, in sentences."""
    teacher, student, price = (
        f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        for value in (found.teacher_per_million, found.student_per_million, found.distillation)
    )
    how, each = ("writing one text at a time", "token") if found.unit else ("in batches", "request")
    unsure = "" if found.steady else "; the timings differed when repeated"
    where = f" (measured {how} on {machine(found)}{unsure})" if machine(found) else ""
    said = f"A million {found.unit or 'predictions'} cost {teacher} with the teacher and {student} with the student{where}. "
    if found.requests is None:
        return said + f"The distillation cost {price} and never pays for itself: the student is not cheaper."
    days = f", {found.days:,.1f} days" if found.days is not None else ""
    if found.requests_per_day == 0:
        days = ", which never come at 0 a day"
    said += f"The distillation cost {price} and has paid for itself after {found.requests:,} {each}s{days}"
    return f"{said}.{_teacher_words(found)}"


def _teacher_words(found: Roi) -> str:
    if found.with_teacher is None:
        return ""
    said = f" With the teacher's training and scoring it has after {found.with_teacher:,} tokens"
    if found.students is None:
        return f"{said}."
    shared = f"{found.students:,} students" if found.students > 1 else "a single student"
    return f"{said}; shared by {shared}, these cost each no more than its own training."
