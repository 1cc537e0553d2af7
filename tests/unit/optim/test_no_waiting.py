"""No step reads a value from the device: everything runs on fake tensors, which have no values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from normfree.optim import AGCSGD, LARS, SAM, Muon, RMSProp, clip_gradients_


def fake_net():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    return net, lambda: net(torch.ones(2, 3, 4, 4)).square().mean()


@pytest.mark.parametrize("kind", [AGCSGD, LARS, RMSProp, Muon])
def test_optimizers(kind):
    with FakeTensorMode():
        net, loss = fake_net()
        optimizer = kind(net.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(2):
            loss().backward()
            optimizer.step()
        assert AGCSGD is not kind or optimizer.total_units == 4 + 2 + 2


@pytest.mark.parametrize("clip", ["unit", "layer", "global"])
def test_clipping(clip):
    with FakeTensorMode():
        net, loss = fake_net()
        loss().backward()
        clipped, _ = clip_gradients_([{"params": list(net.parameters())}], clip)
        with pytest.raises(DataDependentOutputException):
            clipped.item()  # reading a value raises an error


def test_sharpness_aware_minimization():
    with FakeTensorMode():
        net, loss = fake_net()
        loss().backward()
        with SAM(net.parameters()).ascended():
            loss().backward()
