from __future__ import annotations

import torch

from normfree.analysis.ceilings import best_rates, ceilings
from normfree.analysis.complexity import layer_macs
from normfree.analysis.latency import HostTimer, Latency, compare_phases


def test_operations_and_bytes_are_counted_as_a_layer_counts_them() -> None:
    found = ceilings(side=64, copy_bytes=1024)
    x = torch.zeros(1, 16, 16, 16)
    for pixels in (1, 3):
        layer = torch.nn.Conv2d(16, 16, pixels, padding=pixels // 2, bias=False)
        amount = found[f"matrix: {pixels}×{pixels} convolution"].amount
        assert amount == 2 * layer_macs(layer, x)
        assert found[f"matrix: {pixels}×{pixels} convolution"].call().shape == x.shape
    linear = torch.nn.Linear(64, 64, bias=False)
    assert found["matrix: linear"].amount == 2 * layer_macs(linear, torch.zeros(64, 64))
    copied = found["copy"].call()
    assert found["copy"].amount == 2 * copied.nbytes == 2048
    assert copied.min() == 1


def test_the_fastest_way_is_the_ceiling() -> None:
    found = ceilings(side=64, copy_bytes=64)
    times = {name: Latency(2.0, 1.0, 3.0, 4) for name in found}
    times["matrix: linear"] = Latency(0.01, 0.01, 0.01, 4)
    rates = best_rates(found, times)
    assert rates["matrix"]["by"] == "linear"
    assert rates["matrix"]["per_second"] == 2 * 64**3 / 0.01
    assert rates["copy"]["per_second"] == 128 / 2


def test_phases_take_turns_and_the_total_is_of_whole_steps() -> None:
    now, order = [0.0], []

    def phase(name: str, seconds: list[float]) -> None:
        order.append(name)
        now[0] += seconds.pop(0)

    one, two = [9.0, 1.0, 5.0], [9.0, 4.0, 0.0]
    steps = {
        "a": {"one": lambda: phase("a1", one), "two": lambda: phase("a2", two)},
        "b": {"one": lambda: phase("b1", [2.0])},
    }
    found = compare_phases(steps, rounds=2, warmup=1, timer=HostTimer(lambda: now[0]))
    assert order == ["a1", "a2", "b1"] * 3
    assert [*found["a"]] == ["one", "two", "total"]
    assert found["a"]["one"].median == 3.0
    assert found["a"]["two"].median == 2.0
    assert found["a"]["total"].median == 5.0
    assert found["b"]["total"] == Latency(2.0, 2.0, 2.0, 2)
