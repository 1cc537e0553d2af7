from __future__ import annotations

from functools import partial
from itertools import count

from normfree.analysis.latency import Latency, compare_latency


def test_calls_take_turns_and_the_warmup_is_not_counted() -> None:
    now, order = [0.0], []

    def call(name: str, seconds: list[float]) -> None:
        order.append(name)
        now[0] += seconds.pop(0)

    slow, fast = [100.0, 4.0, 1.0, 9.0, 2.0, 3.0], [50.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    found = compare_latency(
        {"slow": lambda: call("slow", slow), "fast": lambda: call("fast", fast)},
        rounds=5,
        warmup=1,
        clock=lambda: now[0],
    )
    assert found == {"slow": Latency(3.0, 2.0, 4.0, 5), "fast": Latency(1.0, 1.0, 1.0, 5)}
    assert order == ["slow", "fast"] * 6


def test_the_clock_stands_around_the_call_only() -> None:
    ticks = count()
    found = compare_latency({"nothing": lambda: None}, rounds=4, clock=lambda: float(next(ticks)))
    assert found["nothing"] == Latency(1.0, 1.0, 1.0, 4)


def test_a_call_can_settle_before_it_is_timed() -> None:
    now, last, costs = [0.0], [""], {"a": 1.0, "b": 2.0}

    def call(name: str) -> None:
        now[0] += costs[name] + 5 * (last[0] != name)  # the first call after another one is slow
        last[0] = name

    calls = {name: partial(call, name) for name in costs}
    found = compare_latency(calls, rounds=2, settle=True, clock=lambda: now[0])
    assert [found[name].median for name in costs] == [1.0, 2.0]
    assert compare_latency(calls, rounds=2, clock=lambda: now[0])["a"].median == 6.0
