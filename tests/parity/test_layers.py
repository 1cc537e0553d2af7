"""One layer at a time: convolution, pooling, activations."""

from __future__ import annotations

import pytest
import torch

from normfree.nn import ACTIVATIONS, ScaledActivation, WSConv2d
from normfree.nn.functional import avg_pool2d_same, max_pool2d_same
from normfree.weights import deepmind
from tests.parity import reference

CONV = reference.arrays("ws_conv")
CONV_CASES = sorted({key.split("/")[0] for key in CONV})


def ws_conv(case, dtype):
    stored = reference.below(case, CONV)
    weight = deepmind.parameter_layout(stored["w"])
    o, i, kh, kw = weight.shape
    groups, stride = int(stored["groups"]), int(stored["stride"])
    conv = WSConv2d(i * groups, o, (kh, kw), stride, groups=groups, dtype=dtype)
    values = {"weight": weight, "gain": stored["gain"], "bias": stored["bias"]}
    conv.load_state_dict({name: torch.as_tensor(value) for name, value in values.items()})
    x = reference.nchw(stored["input"], dtype).requires_grad_()
    y = conv(x)
    (y * reference.nchw(stored["cotangent"], dtype)).sum().backward()
    return stored, conv, x, y


@pytest.mark.parametrize("case", CONV_CASES)
def test_ws_conv_float64(case):
    stored, conv, _, y = ws_conv(case, torch.float64)
    assert reference.relative_error(y, stored["output_f64"].transpose(0, 3, 1, 2)) <= 1e-9
    want = deepmind.parameter_layout(stored["grad_w_f64"]).numpy()
    assert reference.relative_error(conv.weight.grad, want) <= 1e-8


@pytest.mark.parametrize("case", CONV_CASES)
def test_ws_conv_float32(case):
    stored, conv, x, y = ws_conv(case, torch.float32)
    # Filters near the clamp are dominated by rounding, so compare with the float64 output.
    assert reference.relative_error(y, stored["output_f64"].transpose(0, 3, 1, 2)) <= 1e-5
    assert reference.relative_error(x.grad, stored["grad_input"].transpose(0, 3, 1, 2)) <= 1e-4
    assert reference.relative_error(conv.gain.grad, stored["grad_gain"]) <= 1e-4
    assert reference.relative_error(conv.bias.grad, stored["grad_bias"]) <= 1e-4
    want = deepmind.parameter_layout(stored["grad_w_f64"]).numpy()
    assert reference.relative_error(conv.weight.grad, want) <= 1e-4


POOL = reference.arrays("pool_same")


@pytest.mark.parametrize("size", sorted({key.split("/")[0] for key in POOL}))
def test_pooling(size):
    stored = reference.below(size, POOL)
    x = reference.nchw(stored["input"])
    mean, largest = (stored[key].transpose(0, 3, 1, 2) for key in ("avg2s2", "max3s2"))
    assert reference.relative_error(avg_pool2d_same(x), mean) <= 1e-6
    assert reference.relative_error(max_pool2d_same(x), largest) == 0


STORED = reference.arrays("activations")
NAMES = sorted({key.split("/")[0] for key in STORED if key.endswith("/y")})


def test_every_elementwise_activation_is_stored():
    assert set(NAMES) == set(ACTIVATIONS) - {"glu", "log_softmax"}


@pytest.mark.parametrize("name", NAMES)
def test_activation(name):
    stored = reference.below(name, STORED)
    x = torch.from_numpy(STORED["x"]).requires_grad_()
    y = ScaledActivation(name)(x)
    y.sum().backward()
    assert reference.relative_error(y, stored["y"]) <= 1e-6
    smooth = STORED["x"] != 0  # at a kink, the slope on either side is valid
    assert reference.relative_error(x.grad[smooth], stored["dy"][smooth]) <= 1e-5
    exact = ScaledActivation(name)(torch.from_numpy(STORED["x"]).double())
    assert reference.relative_error(exact, stored["y_f64"]) <= 1e-12


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"identity"}))
def test_standard_deviation_under_a_unit_normal(name):
    """Our integral matches the reference's quadrature and is within 2% of one."""
    exact = ScaledActivation(name, gain="exact")
    std = ScaledActivation(name).gain / exact.gain
    assert std == pytest.approx(STORED[f"{name}/std_under_unit_normal"].item(), rel=1e-6)
    assert abs(std - 1) <= 0.02
