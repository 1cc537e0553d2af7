from __future__ import annotations

import pytest
import torch
from torch import nn

from normfree.train.finite import NonFiniteError, check_weights


def test_the_bad_parameter_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    check_weights(model, 3)
    model[1].bias.data[1] = torch.nan
    with pytest.raises(NonFiniteError, match=r"parameter 1\.bias is not finite at step 3"):
        check_weights(model, 3)
