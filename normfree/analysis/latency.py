"""Compare the latency of several calls under the same conditions."""

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
        calls: number of timed calls.
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
    settle: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Time several calls in alternation, round after round.

    Alternating spreads slow changes of the machine, such as clock throttling and cache warm-up,
    evenly over all calls. The median is robust to outliers.

    Args:
        calls: name → function; a function that runs on an accelerator must synchronize.
        rounds: number of timed rounds, at least 2.
        warmup: number of untimed rounds at the start.
        settle: whether the same call runs untimed before each timed one, so that the call before
            costs it nothing: other programs' threads stay busy for a while after their last result.
        clock: returns the time in seconds.

    Returns:
        Name → latency.

    Example:
        >>> times = compare_latency({"add": lambda: sum(range(9)), "nothing": lambda: None})
        >>> times["add"].calls, times["add"].low <= times["add"].median <= times["add"].high
        (20, True)
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + rounds):
        for name, call in calls.items():
            if settle:
                call()
            start = clock()
            call()
            if number >= warmup:
                seconds[name].append(clock() - start)
    return {name: _summary(times) for name, times in seconds.items()}


def _summary(times: list[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high, len(times))
