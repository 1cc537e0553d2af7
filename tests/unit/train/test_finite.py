from __future__ import annotations

import pytest
import torch
from torch import nn

from normfree.train.finite import LossWatch, NonFiniteError, check_weights


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_step_is_named(bad: float) -> None:
    watch = LossWatch()
    for step, loss in enumerate([1.0, 2.0, bad, 1.0, float("nan")]):
        watch.see(torch.tensor(loss), step)
    with pytest.raises(NonFiniteError, match="at step 2;") as caught:
        watch.check()
    assert caught.value.step == 2


def test_step_zero_can_be_bad() -> None:
    watch = LossWatch()
    watch.see(torch.tensor(float("nan")), 0)
    with pytest.raises(NonFiniteError, match="at step 0;"):
        watch.check()


def test_good_losses_pass() -> None:
    watch = LossWatch()
    watch.see(torch.tensor(1e30), 0)
    watch.check()


def test_the_bad_parameter_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    check_weights(model, 3)
    model[1].bias.data[1] = torch.nan
    with pytest.raises(NonFiniteError, match=r"parameter 1\.bias is not finite at step 3"):
        check_weights(model, 3)
