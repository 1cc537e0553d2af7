"""WSConv2d as a drop-in replacement for torch.nn.Conv2d."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from normfree.nn import WSConv2d
from normfree.nn.functional import standardize_weight


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": (2, 0), "stride": 2},
        {"kernel_size": (1, 5), "padding": "valid", "bias": False},
        {"kernel_size": 3, "padding": 0, "dilation": 2, "groups": 2},
        {"kernel_size": 3, "stride": (2, 1), "padding": 1, "dilation": (1, 2), "groups": 4},
    ],
    ids=str,
)
def test_is_a_convolution_with_the_standardized_filters(arguments):
    torch.manual_seed(0)
    ours, plain = WSConv2d(4, 8, **arguments), nn.Conv2d(4, 8, **arguments)
    with torch.no_grad():
        ours.gain.normal_(1, 0.5)
        plain.weight.copy_(standardize_weight(ours.weight, ours.gain))
        if ours.bias is not None:
            plain.bias.copy_(ours.bias.normal_())
    x = torch.randn(2, 4, 11, 9)
    torch.testing.assert_close(ours(x), plain(x))
    assert isinstance(ours, nn.Conv2d)


def test_same_is_the_default_and_keeps_ceil_of_the_size():
    for stride, size in [(1, 7), (2, 7), (2, 8), (3, 8)]:
        y = WSConv2d(3, 4, 3, stride)(torch.zeros(1, 3, size, size + 1))
        assert y.shape[2:] == (-(-size // stride), -(-(size + 1) // stride))


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="padding"):
        WSConv2d(3, 4, 3, padding="smae")


def test_names_and_initial_values():
    torch.manual_seed(0)
    conv = WSConv2d(64, 256, 3, groups=2)
    assert sorted(conv.state_dict()) == ["bias", "gain", "weight"]
    assert (conv.gain == 1).all()
    assert (conv.bias == 0).all()
    assert conv.gain.shape == conv.bias.shape == (256,)
    assert conv.weight.std().item() == pytest.approx((32 * 9) ** -0.5, rel=0.02)
    without = WSConv2d(3, 4, 3, bias=False)
    assert without.bias is None
    assert sorted(without.state_dict()) == ["gain", "weight"]


def test_reset_parameters_draws_anew():
    conv = WSConv2d(3, 4, 3)
    before = conv.weight.detach().clone()
    nn.init.constant_(conv.gain, 3.0)
    nn.init.constant_(conv.bias, 3.0)
    conv.reset_parameters()
    assert not torch.equal(conv.weight, before)
    assert (conv.gain == 1).all()
    assert (conv.bias == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(dtype):
    conv = WSConv2d(3, 4, 3, stride=2, dtype=dtype)
    y = conv(torch.randn(1, 3, 9, 9, dtype=dtype))
    assert {p.dtype for p in conv.parameters()} == {y.dtype} == {dtype}
    exact = copy.deepcopy(conv).double()(torch.ones(1, 3, 9, 9, dtype=torch.float64))
    ours = conv(torch.ones(1, 3, 9, 9, dtype=dtype))
    assert (ours - exact).abs().max() < 0.05


def test_meta_device():
    conv = WSConv2d(3, 4, 3, device="meta")
    assert {p.device.type for p in conv.parameters()} == {"meta"}
    assert conv(torch.empty(1, 3, 8, 8, device="meta")).shape == (1, 4, 8, 8)


def test_copy_and_pickle_compute_the_same():
    conv, x = WSConv2d(3, 4, 3, 2), torch.randn(1, 3, 9, 9)
    for twin in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(twin(x), conv(x))
        assert twin.weight is not conv.weight


def test_forward_leaves_input_and_weights_alone():
    conv, x = WSConv2d(3, 4, 3, 2), torch.randn(1, 3, 8, 8)
    before = [p.detach().clone() for p in (*conv.parameters(), x)]
    conv(x).sum().backward()
    for value, kept in zip((*conv.parameters(), x), before, strict=True):
        assert torch.equal(value, kept)


def test_scaling_or_shifting_a_filter_changes_nothing():
    conv, x = WSConv2d(8, 4, 3), torch.randn(1, 8, 6, 6)
    want = conv(x)
    with torch.no_grad():
        conv.weight.mul_(3.0).add_(0.5)
    torch.testing.assert_close(conv(x), want, rtol=1e-4, atol=1e-5)


def test_autocast_standardizes_in_float32():
    conv, x = WSConv2d(8, 4, 3), torch.randn(1, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    weight = standardize_weight(conv.weight, conv.gain)
    want = F.conv2d(x.bfloat16(), weight.bfloat16(), conv.bias.bfloat16(), padding=1)
    assert torch.equal(y, want)


def test_print_says_how_it_pads():
    assert "padding=same" in repr(WSConv2d(3, 4, 3))
    assert "padding=(1, 1)" in repr(WSConv2d(3, 4, 3, padding=1))
