"""How much less a student takes than its teacher; apart from the measuring, which needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a teacher has more of than its student: the result's key, the word where it is more, the word where it is less.
RATIOS = {
    "parameters": ("fewer parameters", "more parameters"),
    "multiply_adds": ("fewer multiply-adds", "more multiply-adds"),
    "latency_ms": ("faster on one image", "slower on one image"),
    "latency_batch_ms": ("faster on a batch", "slower on a batch"),
    "peak_memory_bytes": ("less peak memory", "more peak memory"),
    "size_bytes": ("smaller on disk", "larger on disk"),
}


def ratios(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, float | None]:
    """How many times more of each thing the teacher takes than the student.

    Args:
        teacher, student: as of `efficiency.measure`.

    Returns:
        Teacher over student by the keys of `RATIOS`; None where one of them was not measured, for a latency and the
        peak memory also where the two were measured on different devices or threads.
    """
    elsewhere = any(teacher.get(key) != student.get(key) for key in ("device", "threads"))
    found: dict[str, float | None] = {}
    for key in RATIOS:
        above, below = teacher.get(key), student.get(key)
        measured = key.startswith(("latency", "peak"))
        found[key] = None if above is None or not below or (measured and elsewhere) else above / below
    return found


def in_words(found: Mapping[str, float | None]) -> str:
    """The ratios for people, e.g. "272× fewer parameters, 12× faster on one image"."""
    parts = []
    for key, (less, more) in RATIOS.items():
        if ratio := found.get(key):
            times = max(ratio, 1 / ratio)
            number = f"{times:.3g}" if times < 1000 else f"{times:,.0f}"
            parts.append(f"{number}× {less if ratio >= 1 else more}")
    return ", ".join(parts)
