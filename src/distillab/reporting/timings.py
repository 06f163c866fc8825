"""Timings of one network by several runs, joined: without that, one network of two methods would have two latencies."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from distillab.core.result import Result
from distillab.core.result_parts import Entry

TIMED = ("latency_ms", "latency_p95_ms", "latency_batch_ms", "latency_batch_p95_ms", "latency_spread", "throughput")


def pooled(results: Sequence[Result]) -> list[Result]:
    """The results with each timing's median over all runs that timed the same network on the same machine.

    Runs that timed it while the machine was busy count only where there is no other.
    """
    found: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    entries = [entry for result in results for entry in result.entries.values()]
    quiet = {timed(entry) for entry in entries if entry.efficiency.steady}
    for entry in (entry for entry in entries if entry.efficiency.steady or timed(entry) not in quiet):
        for key in TIMED:
            if (value := entry.figure(key)) is not None:
                found[timed(entry)][key].append(value)
    medians = {network: {key: statistics.median(each) for key, each in by.items()} for network, by in found.items()}

    def steady(entry: Entry) -> Entry:
        efficiency = entry.efficiency.model_copy(update=medians.get(timed(entry)))
        return entry.model_copy(update={"efficiency": efficiency})

    return [one.model_copy(update={role: steady(entry) for role, entry in one.entries.items()}) for one in results]


def timed(entry: Entry) -> tuple[Any, ...]:
    """The network and the machine of a role's entry."""
    measured = entry.efficiency
    return entry.name, measured.parameters, measured.multiply_adds, measured.device, measured.threads
