"""Initial gains from data."""

from __future__ import annotations

import pytest
import torch

from normfree.factory import create_model
from normfree.nn import WSConv2d
from normfree.nn.calibration import calibrate_gains


def correlated(count: int = 32) -> torch.Tensor:
    """Images whose pixels are mostly alike, as in photographs."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randn(count, 1, 1, 1, generator=generator)
    return levels + 0.3 * torch.randn(count, 1, 8, 8, generator=generator)


def deviations(model: torch.nn.Module, images: torch.Tensor) -> list[float]:
    found: list[float] = []
    for module in model.modules():
        if isinstance(module, WSConv2d):
            module.register_forward_hook(
                lambda _, __, y: found.append(float(y.var(dim=(0, 2, 3)).mean().sqrt()))
            )
    with torch.no_grad():
        model.eval()(images)
    return found


def test_every_convolution_has_outputs_of_unit_variance():
    torch.manual_seed(0)
    model, images = create_model("nfnet_pico", num_classes=3, in_channels=1), correlated()
    assert min(deviations(model, images)) < 0.3
    torch.manual_seed(0)
    model = create_model("nfnet_pico", num_classes=3, in_channels=1)
    calibrate_gains(model, images)
    found = deviations(model, images)
    assert found == pytest.approx([1.0] * len(found), rel=0.02)


def test_a_constant_output_leaves_the_gain_alone():
    conv = WSConv2d(1, 4, 1)
    calibrate_gains(conv, torch.zeros(2, 1, 4, 4))
    assert torch.equal(conv.gain, torch.ones(4))


def test_only_gains_change_and_the_mode_is_as_before():
    model = create_model("nfnet_pico", num_classes=3, in_channels=1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrate_gains(model, correlated())
    assert model.training
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {n for n in before if n.endswith(".gain")}
