"""Timings over runs: one network on one machine has one latency, however many runs measured it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

TIMED = ("latency_ms", "latency_p95_ms", "latency_batch_ms", "latency_batch_p95_ms", "throughput")
NETWORK = ("name", "parameters", "multiply_adds")
MACHINE = ("device", "threads")
ROLES = ("teacher", "baseline", "student")


def pooled(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results with each timing's median over all runs that timed the same network on the same machine.

    Without it a network of two methods would lie at two latencies, and a front in latency would be one of noise.
    """
    found: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in (entry for result in results for role in ROLES if (entry := result.get(role))):
        for key in TIMED:
            if isinstance(entry.get(key), int | float):
                found[timed(entry)][key].append(entry[key])
    medians = {network: {key: statistics.median(each) for key, each in by.items()} for network, by in found.items()}
    return [
        {
            **result,
            **{role: {**entry, **medians.get(timed(entry), {})} for role in ROLES if (entry := result.get(role))},
        }
        for result in results
    ]


def timed(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """The network and the machine of a role's entry."""
    return tuple(entry.get(key) for key in (*NETWORK, *MACHINE))
