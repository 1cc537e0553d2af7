"""How long calls take, compared so that the machine's moods fall on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """The time of one call.

    Attributes:
        median: seconds.
        low: first quartile, seconds.
        high: third quartile, seconds.
        calls: how many were timed.
    """

    median: float
    low: float
    high: float
    calls: int


def compare_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 20,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Time some calls in turn, round after round.

    What else the machine does in a while, a turbo clock that cools down or caches that fill, then
    meets all calls alike; the medians leave out what hit only one.

    Args:
        calls: name → what to call; whatever runs on an accelerator has to wait for it.
        rounds: times that each is timed, at least 2.
        warmup: rounds before, not timed.
        clock: seconds.

    Returns:
        The times by name.

    Example:
        >>> times = compare_latency({"add": lambda: sum(range(9)), "nothing": lambda: None})
        >>> times["add"].calls, times["add"].low <= times["add"].median <= times["add"].high
        (20, True)
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + rounds):
        for name, call in calls.items():
            start = clock()
            call()
            if number >= warmup:
                seconds[name].append(clock() - start)
    return {name: _summary(times) for name, times in seconds.items()}


def _summary(times: list[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high, len(times))
