"""What a network costs, and what `cost` found, for people; apart from the measuring, which needs torch."""

from __future__ import annotations

from collections.abc import Callable

from distillab.core.result_parts import Cost, Efficiency, EqualCompute, Roi, TeacherOutputs

# What a teacher has more of than its student: the figure's key, the word where it is more, the word where it is less.
RATIOS = {
    "parameters": ("fewer parameters", "more parameters"),
    "multiply_adds": ("fewer multiply-adds", "more multiply-adds"),
    "latency_ms": ("faster on one image", "slower on one image"),
    "latency_batch_ms": ("faster on a batch", "slower on a batch"),
    "peak_memory_bytes": ("less peak memory", "more peak memory"),
    "size_bytes": ("smaller on disk", "larger on disk"),
}


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
    said.append(found.roi and _roi_words(found.roi))
    if not found.equal_compute and found.scheme != "offline":
        why = "it has no fixed teacher to charge"
        said.append(f"The gain at equal compute was not measured for scheme={found.scheme}: {why}.")
    return list(filter(None, said))


def machine(measured: Efficiency | Roi) -> str:
    """Where a model was measured: `cpu, 2 threads`, `cuda`; empty where it is not known."""
    threads = measured.threads if measured.device == "cpu" else None
    return (measured.device or "") + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")


def ratios(teacher: Efficiency, student: Efficiency) -> dict[str, float]:
    """How many times more of each thing the teacher takes than the student, by the keys of `RATIOS`.

    What was not measured for both of them is left out, as are latencies and the peak memory that were measured on
    different devices or threads.
    """
    elsewhere = (teacher.device, teacher.threads) != (student.device, student.threads)
    found = {}
    for key in RATIOS:
        above, below = getattr(teacher, key), getattr(student, key)
        if above is not None and below and not (elsewhere and key.startswith(("latency", "peak"))):
            found[key] = above / below
    return found


def in_words(found: dict[str, float]) -> str:
    """The ratios for people, e.g. "272× fewer parameters, 12× faster on one image"."""
    parts = []
    for key, ratio in found.items():
        if ratio:
            times = max(ratio, 1 / ratio)
            number = f"{times:.3g}" if times < 1000 else f"{times:,.0f}"
            parts.append(f"{number}× {RATIOS[key][ratio < 1]}")
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
        epochs = f"{equal.training_epochs} epochs of the student alone by multiply-adds{seconds}"
        brought = f"against these it brought {gain(equal.gain_live, 2)}"
        return f"{said} With a live teacher, equal compute is {epochs}; {brought}."
    if equal.epochs is None:
        return said
    could = f"the student alone could have trained {equal.epochs:.1f} epochs for the same compute"
    return f"{said} With a live teacher, {could}; this was not tried."


def _roi_words(found: Roi) -> str:
    teacher, student, price = (
        f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        for value in (found.teacher_per_million, found.student_per_million, found.distillation)
    )
    where = f" (measured in batches on {machine(found)})" if machine(found) else ""
    said = f"A million predictions cost {teacher} with the teacher and {student} with the student{where}. "
    if found.requests is None:
        return said + f"The distillation cost {price} and never pays for itself: the student is not cheaper."
    days = f", {found.days:,.1f} days" if found.days is not None else ""
    if found.requests_per_day == 0:
        days = ", which never come at 0 a day"
    return said + f"The distillation cost {price} and has paid for itself after {found.requests:,} requests{days}."
