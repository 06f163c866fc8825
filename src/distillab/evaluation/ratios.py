"""How much less a student takes than its teacher; apart from the measuring, which needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillab.core.result_parts import Efficiency

# What a teacher has more of than its student: the figure's key, the word where it is more, the word where it is less.
RATIOS = {
    "parameters": ("fewer parameters", "more parameters"),
    "multiply_adds": ("fewer multiply-adds", "more multiply-adds"),
    "latency_ms": ("faster on one image", "slower on one image"),
    "latency_batch_ms": ("faster on a batch", "slower on a batch"),
    "peak_memory_bytes": ("less peak memory", "more peak memory"),
    "size_bytes": ("smaller on disk", "larger on disk"),
}


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
            less, more = RATIOS[key]
            times = max(ratio, 1 / ratio)
            number = f"{times:.3g}" if times < 1000 else f"{times:,.0f}"
            parts.append(f"{number}× {less if ratio >= 1 else more}")
    return ", ".join(parts)
