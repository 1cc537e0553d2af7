from __future__ import annotations

import pytest
import torch

from normfree.train.tally import Tally


def add(tally: Tally, loss: float, correct: int, clipped: int = 0) -> None:
    tally.add(
        torch.tensor(loss), torch.tensor(correct), images=4, clipped=torch.tensor(clipped), units=10
    )


def test_means_over_steps() -> None:
    tally = Tally()
    add(tally, 1.0, 1, clipped=5)
    add(tally, 2.0, 3, clipped=0)
    assert tally.read() == {"loss": 1.5, "accuracy": 0.5, "clipped": 0.25}
    tally.reset()
    add(tally, 4.0, 4)
    assert tally.read() == {"loss": 4.0, "accuracy": 1.0, "clipped": 0.0}


def test_sums_go_on_from_a_checkpoint() -> None:
    whole, first, second = Tally(), Tally(), Tally()
    for tally in (whole, first):
        add(tally, 0.3, 2, clipped=3)
    second.load_state_dict(first.state_dict())
    for tally in (whole, second):
        add(tally, 0.7, 4)
    assert second.read() == whole.read()


def test_a_saved_sum_does_not_move_with_the_tally() -> None:
    tally = Tally()
    add(tally, 1.0, 1)
    other = Tally()
    other.load_state_dict(tally.state_dict())
    add(other, 3.0, 1)
    assert tally.read()["loss"] == pytest.approx(1.0)


def test_nothing_yet() -> None:
    assert Tally().read() == {"loss": 0.0, "accuracy": 0.0, "clipped": 0.0}
