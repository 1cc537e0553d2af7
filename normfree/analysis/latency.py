"""Compare the latency of several calls under the same conditions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch

Call = Callable[[], object]


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


class Timer(Protocol):
    """Marks points in time."""

    def mark(self) -> Any:
        """Mark now."""
        ...

    def between(self, marks: Sequence[Any]) -> list[float]:
        """Seconds from each mark to the next."""
        ...


@dataclass(frozen=True)
class HostTimer:
    """Time on the host's clock.

    Args:
        clock: returns the time in seconds.

    >>> timer = HostTimer(clock=iter([1.0, 3.0, 3.5]).__next__)
    >>> timer.between([timer.mark(), timer.mark(), timer.mark()])
    [2.0, 0.5]
    """

    clock: Callable[[], float] = time.perf_counter

    def mark(self) -> float:
        """The time."""
        return self.clock()

    def between(self, marks: Sequence[float]) -> list[float]:
        """Differences of times."""
        return [after - before for before, after in pairwise(marks)]


class CudaTimer:
    """Time on the device, by events: the host does not wait between the marks."""

    def mark(self) -> torch.cuda.Event:
        """An event behind all that was launched."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, marks: Sequence[torch.cuda.Event]) -> list[float]:
        """Wait for the last event, then read all."""
        marks[-1].synchronize()
        pairs = pairwise(marks)
        return [before.elapsed_time(after) / 1000 for before, after in pairs]


def timer_of(device: str) -> Timer:
    """The timer for calls that compute on a device.

    >>> timer_of("cpu")
    HostTimer(clock=<built-in function perf_counter>)
    """
    return CudaTimer() if device.startswith("cuda") else HostTimer()


def compare_latency(
    calls: Mapping[str, Call],
    *,
    rounds: int = 20,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Time several calls in alternation, round after round.

    Alternating spreads slow changes of the machine, such as clock throttling and cache warm-up,
    evenly over all calls. The median is robust to outliers.

    Args:
        calls: name → function; a function that runs on an accelerator must synchronize.
        rounds: number of timed rounds, at least 2.
        warmup: number of untimed rounds at the start.
        clock: returns the time in seconds.

    Returns:
        Name → latency.

    Example:
        >>> times = compare_latency({"add": lambda: sum(range(9)), "nothing": lambda: None})
        >>> times["add"].calls, times["add"].low <= times["add"].median <= times["add"].high
        (20, True)
    """
    steps = {name: {"call": call} for name, call in calls.items()}
    phases = compare_phases(steps, rounds=rounds, warmup=warmup, timer=HostTimer(clock))
    return {name: found["total"] for name, found in phases.items()}


def compare_phases(
    steps: Mapping[str, Mapping[str, Call]],
    *,
    rounds: int = 20,
    warmup: int = 2,
    timer: Timer | None = None,
) -> dict[str, dict[str, Latency]]:
    """Time the phases of several steps; the steps take turns, round after round.

    Args:
        steps: name → phases in order, each with its function. No name of a phase is ``total``.
        rounds: number of timed rounds, at least 2.
        warmup: number of untimed rounds at the start.
        timer: marks the time before, between and after the phases; the host's clock by default.

    Returns:
        Name → phase → latency. A phase ``total`` is added: the median over whole steps, which is
        not the sum of the medians.

    Example:
        >>> step = {"forward": lambda: None, "backward": lambda: None}
        >>> [*compare_phases({"nothing": step})["nothing"]]
        ['forward', 'backward', 'total']
    """
    timer = timer or HostTimer()
    laps: dict[str, list[list[float]]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        for name, phases in steps.items():
            marks = [timer.mark()]
            for phase in phases.values():
                phase()
                marks.append(timer.mark())
            seconds = timer.between(marks)
            if number >= warmup:
                laps[name].append([*seconds, sum(seconds)])
    return {
        name: {
            phase: _summary(times)
            for phase, times in zip([*phases, "total"], zip(*laps[name], strict=True), strict=True)
        }
        for name, phases in steps.items()
    }


def _summary(times: Sequence[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high, len(times))
