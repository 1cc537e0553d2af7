"""Any number of ranks, whatever each of them holds, makes the update that one process makes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks.cases import CASES, Outcome, alone, distance
from tests.ranks.launch import finish, start

SLOW = ("compiled",)  # minutes for each set of processes
TWO = [f"{case}:{kind}" for case in CASES if case not in SLOW for kind in ("ddp", "fsdp")]
COMPILED = [f"{case}:{kind}" for case in SLOW for kind in ("ddp", "fsdp")]
_SAM = ("sam", "sam_few", "sam_replica", "sam_other")
_FOUR = ("mixed", "float64", "bfloat16", *_SAM, "layer", "lars")
FOUR = [f"{case}:{kind}" for case in _FOUR for kind in ("ddp", "fsdp", "hsdp")]

Outcomes = dict[str, tuple[dict[str, Any], dict[str, float], list[str]]]


@cache
def one_process(case: str, world: int) -> Outcome:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as ranks do: bfloat16 products differ by the number of threads
    try:
        return alone(case, world)
    finally:
        torch.set_num_threads(threads)


def computed(world: int, names: list[str], directory: Path) -> Outcomes:
    """All cases by one set of processes."""
    path = directory / f"{world}.pt"
    for code, _, errors in finish(start(world, "tests.ranks.worker", str(path), *names)):
        assert code == 0, errors
    return torch.load(path)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return computed(2, TWO, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return computed(4, FOUR, tmp_path_factory.mktemp("four"))


def parameters(state: dict[str, Any]) -> dict[str, Any]:
    """The state without running statistics."""
    return {
        part: {k: x for k, x in some.items() if "running" not in k and "num_batches" not in k}
        for part, some in state.items()
    }


def assert_equal(outcomes: Outcomes, name: str, world: int) -> None:
    state, metrics, digests = outcomes[name]
    assert len(set(digests)) == 1  # all ranks have the same bits
    case = name.partition(":")[0]
    wanted = one_process(case, world)
    trained = {metric: wanted.metrics[metric] for metric in ("loss", "accuracy", "clipped")}
    if case == "bfloat16" and world > 2:  # sums in another order are rounded to other bfloat16
        assert distance(state["model"], wanted.state["model"]) < 1e-4
        return
    if case == "replica":  # running statistics are a mean over ranks, not one after the other
        state, wanted_state, compared = parameters(state), parameters(wanted.state), trained
    else:
        wanted_state, compared = wanted.state, wanted.metrics
    bound = 1e-10 if CASES[case].get("float64") else 1e-6
    for part, tensors in state.items():
        assert distance(tensors, wanted_state[part]) <= bound, part
    for metric, value in compared.items():
        assert metrics[metric] == pytest.approx(value, rel=2e-6), metric


@pytest.mark.slow
def test_compiled_ranks_are_one_process(tmp_path: Path) -> None:
    outcomes = computed(2, COMPILED, tmp_path)
    for name in COMPILED:
        assert_equal(outcomes, name, 2)


@pytest.mark.parametrize("name", TWO)
def test_two_ranks_are_one_process(name: str, two: Outcomes) -> None:
    assert_equal(two, name, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUR)
def test_four_ranks_are_one_process(name: str, four: Outcomes) -> None:
    assert_equal(four, name, 4)
