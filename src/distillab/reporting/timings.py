"""Timings over runs: one network on one machine has one latency, however many runs measured it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillab.core.result import Result
    from distillab.core.result_parts import Entry

TIMED = ("latency_ms", "latency_p95_ms", "latency_batch_ms", "latency_batch_p95_ms", "throughput")


def pooled(results: Sequence[Result]) -> list[Result]:
    """The results with each timing's median over all runs that timed the same network on the same machine.

    Without it a network of two methods would lie at two latencies, and a front in latency would be one of noise.
    """
    found: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in (entry for result in results for entry in result.entries.values()):
        for key in TIMED:
            if (value := entry.figure(key)) is not None:
                found[timed(entry)][key].append(value)
    medians = {network: {key: statistics.median(each) for key, each in by.items()} for network, by in found.items()}

    def steady(entry: Entry) -> Entry:
        efficiency = entry.efficiency.model_copy(update=medians.get(timed(entry)))
        return entry.model_copy(update={"efficiency": efficiency})

    return [
        result.model_copy(update={role: steady(entry) for role, entry in result.entries.items()}) for result in results
    ]


def timed(entry: Entry) -> tuple[Any, ...]:
    """The network and the machine of a role's entry."""
    measured = entry.efficiency
    return entry.name, measured.parameters, measured.multiply_adds, measured.device, measured.threads
