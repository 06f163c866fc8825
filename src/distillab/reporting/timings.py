"""Timings of one network by several runs, joined: without that, one network of two methods would have two latencies."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from distillab.core.result import Result
from distillab.core.result_parts import Entry

# Timings that belong together; the first of each says which run's count.
TIMED = (
    ("latency_ms", "latency_p95_ms"),
    ("latency_batch_ms", "latency_batch_p95_ms", "throughput"),
    ("latency_spread",),
)


def pooled(results: Sequence[Result]) -> list[Result]:
    """The results with the timings of the middle one of all runs that timed the same network on the same machine.

    Runs that timed it while the machine was busy count only where there is no other.
    """
    found: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    entries = [entry for result in results for entry in result.entries.values()]
    quiet = {timed(entry) for entry in entries if entry.efficiency.steady}
    for entry in entries:
        if entry.efficiency.steady or timed(entry) not in quiet:
            found[timed(entry)].append(entry)
    middles = {network: dict(_middle(each)) for network, each in found.items()}

    def steady(entry: Entry) -> Entry:
        efficiency = entry.efficiency.model_copy(update=middles.get(timed(entry)))
        return entry.model_copy(update={"efficiency": efficiency})

    return [one.model_copy(update={role: steady(entry) for role, entry in one.entries.items()}) for one in results]


def _middle(entries: Sequence[Entry]) -> Iterator[tuple[str, float | None]]:
    """Each timing, of the entry that has the median of the first of its group."""
    for first, *others in TIMED:
        known = sorted(
            (entry for entry in entries if entry.figure(first) is not None), key=lambda entry: entry.figure(first)
        )
        if known:
            middle = known[(len(known) - 1) // 2]
            yield from ((key, middle.figure(key)) for key in (first, *others))


def timed(entry: Entry) -> tuple[Any, ...]:
    """The network and the machine of a role's entry."""
    measured = entry.efficiency
    return entry.name, measured.parameters, measured.multiply_adds, measured.device, measured.threads
