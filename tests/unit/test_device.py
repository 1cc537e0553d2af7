from __future__ import annotations

import pytest
import torch

from normfree.device import find_device
from normfree.errors import UserError


def test_auto_is_a_device_that_computes() -> None:
    assert torch.ones(2, device=find_device("auto")).sum() == 2


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "meta"])
def test_a_device_that_cannot_compute_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"--device {name}: .*; try cpu or auto"):
        find_device(name)
