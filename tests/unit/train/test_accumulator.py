from __future__ import annotations

import math

import pytest
import torch

from normfree.train.accumulator import MetricAccumulator


def add(accumulator: MetricAccumulator, loss: float, correct: int, clipped: int = 0) -> None:
    accumulator.add(
        torch.tensor(loss), torch.tensor(correct), images=4, clipped=torch.tensor(clipped), units=10
    )


def test_means_over_steps() -> None:
    accumulator = MetricAccumulator()
    add(accumulator, 1.0, 1, clipped=5)
    add(accumulator, 2.0, 3, clipped=0)
    assert accumulator.read() == {"loss": 1.5, "accuracy": 0.5, "clipped": 0.25}
    accumulator.reset()
    add(accumulator, 4.0, 4)
    assert accumulator.read() == {"loss": 4.0, "accuracy": 1.0, "clipped": 0.0}


def test_sums_go_on_from_a_checkpoint() -> None:
    whole, first, second = MetricAccumulator(), MetricAccumulator(), MetricAccumulator()
    for accumulator in (whole, first):
        add(accumulator, 0.3, 2, clipped=3)
    second.load_state_dict(first.state_dict())
    for accumulator in (whole, second):
        add(accumulator, 0.7, 4)
    assert second.read() == whole.read()


def test_a_saved_sum_does_not_move_with_the_accumulator() -> None:
    accumulator = MetricAccumulator()
    add(accumulator, 1.0, 1)
    other = MetricAccumulator()
    other.load_state_dict(accumulator.state_dict())
    add(other, 3.0, 1)
    assert accumulator.read()["loss"] == pytest.approx(1.0)


def test_nothing_yet() -> None:
    means = MetricAccumulator().read()
    assert math.isnan(means["loss"])
    assert math.isnan(means["accuracy"])
    assert means["clipped"] == 0.0
