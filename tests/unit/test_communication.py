"""The equations of the communication model, against rings and schedules that are simulated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import normfree
from benchmarks import communication
from benchmarks.collectives import (
    LINKS,
    REACHED,
    START,
    Cluster,
    Link,
    fetched_ahead,
    hidden_behind,
    ring,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def simulated_ring(shares: list[float], bandwidth: float, latency: float) -> float:
    """Each device passes on what it got last, until all have all; returns the clock."""
    count, clock = len(shares), 0.0
    held = [{number} for number in range(count)]
    last = list(range(count))
    while any(len(some) < count for some in held):
        clock += latency + max(shares[number] for number in last) / bandwidth
        last = [last[number - 1] for number in range(count)]
        for number, new in enumerate(last):
            held[number].add(new)
    return clock


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_ring_takes_as_long_as_a_simulated_one(count: int) -> None:
    wanted = simulated_ring([6e6 / count] * count, 1e9, 1e-5)
    assert ring(6e6, count, 1e9 / REACHED, 1e-5) == pytest.approx(wanted)


def test_a_ring_is_its_closed_form() -> None:
    cluster = Cluster(8, LINKS["nvlink4"], LINKS["ndr"])
    moved = 2 * 7 / 8 * 1e9 / (450e9 * REACHED)  # 2 (p − 1) / p · n / β
    assert cluster.reduce(1e9) == pytest.approx(START + moved + 2 * 7 * 3.4e-6)
    assert cluster.reduce(1e9) == pytest.approx(2 * cluster.gather(1e9) - START)


def test_between_machines_each_device_sends_its_share_and_may_share_the_way_out() -> None:
    fast = Link("fast", 1e30, 0.0, "")
    own, shared = (Link("", 1e9, 0.0, "", shared=kind) for kind in (False, True))
    one, common = (Cluster(32, fast, link) for link in (own, shared))
    assert one.gather(8e9) - START == pytest.approx(3 / 4 * 1e9 / (1e9 * REACHED))
    assert common.gather(8e9) - START == pytest.approx(3 / 4 * 8e9 / (1e9 * REACHED))


def simulated_overlap(compute: float, communicate: float, parts: int) -> float:
    """Parts are computed one after the other; each is sent once it is there and the way is free."""
    free = 0.0
    for number in range(1, parts + 1):
        free = max(free, number * compute / parts) + communicate / parts
    return free


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize(("compute", "communicate"), [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (1, 0)])
def test_overlap_is_that_of_a_simulated_schedule(
    compute: float, communicate: float, parts: int
) -> None:
    wanted = simulated_overlap(compute, communicate, parts)
    assert hidden_behind(compute, communicate, parts) == pytest.approx(wanted)
    backward = simulated_overlap(communicate, compute, parts)
    assert fetched_ahead(compute, communicate, parts) == pytest.approx(backward)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_without_a_price_for_communication_nothing_is_lost(kind: str) -> None:
    free = Link("free", 1e30, 0.0, "")
    work = communication.network("nfnet_f0")
    steps = [
        communication.step(kind, work, Cluster(n, free, free), communication.DEVICE["H100"], 0.2)
        for n in (8, 512)
    ]
    for step in steps:
        assert step.efficiency > 0.97  # but for what it takes to start the operations
    assert steps[0].seconds > 40 * steps[1].seconds


def test_the_numbers_of_a_network_are_its_own() -> None:
    work = communication.network("nfnet_f0")
    assert work.parameters == 71_489_284
    assert work.blocks == 12
    assert work.flops == pytest.approx(167_448_084_480 / 4)  # stored by `normfree bench train`


def test_kept_activations_are_near_what_was_measured() -> None:
    """F0 at 96 pixels in float32: peak memory by image, from stored runs of two batch sizes."""
    peaks = {}
    for batch in (4, 16):
        path = RESULTS / f"2026-11-26_train_nfnet_f0_batch{batch}.json"
        rows = json.loads(path.read_text())["results"]
        (peaks[batch],) = [r["memory_bytes"] for r in rows if r["label"] == "nfnet_f0, in_backward"]
    measured = (peaks[16] - peaks[4]) / 12
    model = normfree.create_model("nfnet_f0", device="meta")
    assert communication.kept_activations(model, 96) == pytest.approx(measured, rel=0.15)


def test_the_stored_result_is_what_the_model_says_and_can_be_drawn(tmp_path: Path) -> None:
    stored = json.loads((RESULTS / "2026-11-26_communication.json").read_text())
    measured = json.loads((RESULTS / stored["measured"][0]).read_text())
    share = communication.shares(measured)["the paper's V100"]
    assert list(communication.rows(share, stored["device"])) == stored["results"]
    communication.draw(stored, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 10_000
