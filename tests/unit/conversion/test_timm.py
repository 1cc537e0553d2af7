"""timm's networks, where timm is installed."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

import normfree
from benchmarks import timm_standin
from normfree.analysis import signal_propagation
from normfree.nn import ResidualBlock


def timm_alone():
    """Import timm, and leave no stand-in behind for other tests."""
    finders = list(sys.meta_path)
    timm_standin.install()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("timm")
    finally:
        sys.meta_path[:] = finders
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


timm = timm_alone()

#: Name → how many residual blocks it has.
NETWORKS = {
    "resnet18": 8,
    "resnet50d": 16,
    "seresnext50_32x4d": 16,
    "resnetv2_50": 16,
    "res2net50_26w_4s": 16,
    "regnety_002": 13,
    "mobilenetv2_100": 10,
    "efficientnet_b0": 9,
    "densenet121": 0,
    "vgg11_bn": 0,
}


@pytest.mark.parametrize(("name", "blocks"), NETWORKS.items())
def test_a_network_of_timm(name, blocks):
    torch.manual_seed(0)
    original = timm.create_model(name, num_classes=10)
    model, report = normfree.convert(original)
    assert report.complete, report
    assert type(model) is type(original)
    assert sum(isinstance(m, ResidualBlock) for m in model.modules()) == blocks
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    assert model.forward_features(x).shape == original.eval().forward_features(x).shape
    if blocks:
        signals = signal_propagation(model, x, skip_gain=1)
        assert len(signals) == blocks
        assert 0.2 < signals[0].variance < 1.4
