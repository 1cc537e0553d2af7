"""Efficient channel attention."""

from __future__ import annotations

import pytest
import torch

from normfree import UserError
from normfree.models import build_model
from normfree.nn import SESpec
from normfree.nn.channel_attention import EfficientChannelAttention


@pytest.mark.parametrize(("channels", "size"), [(16, 3), (64, 3), (256, 5), (1536, 5), (4096, 7)])
def test_the_size_of_the_kernel(channels, size):
    assert len(EfficientChannelAttention(channels).weight) == size


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("with_skip", [False, True])
def test_it_is_the_equation(scale, with_skip):
    attention = EfficientChannelAttention(8, dtype=torch.float64)
    x, skip = torch.randn(2, 2, 8, 5, 4, dtype=torch.float64)
    w, mean = attention.weight, x.mean((2, 3))
    padded = torch.cat([mean.new_zeros(2, 1), mean, mean.new_zeros(2, 1)], dim=1)
    z = sum(w[k] * padded[:, k : k + 8] for k in range(3))
    want = x * 2 * z.sigmoid()[:, :, None, None] * (1 if scale is None else scale)
    factor = None if scale is None else torch.tensor(scale, dtype=torch.float64)
    found = attention(x, None, skip if with_skip else None, factor)
    torch.testing.assert_close(found, want + skip if with_skip else want)


def test_gradients_in_float32_are_those_of_float64():
    coarse = EfficientChannelAttention(32)
    fine = EfficientChannelAttention(32, dtype=torch.float64)
    fine.weight.data.copy_(coarse.weight)
    x = torch.randn(2, 32, 6, 6)
    for attention in (coarse, fine):
        attention(x.to(attention.weight.dtype)).square().sum().backward()
    torch.testing.assert_close(coarse.weight.grad.double(), fine.weight.grad, rtol=1e-4, atol=1e-4)


def test_it_cannot_be_straddled():
    with pytest.raises(UserError, match="cannot be straddled"):
        SESpec(kind="eca", place="straddled")
    with pytest.raises(UserError, match="cannot be straddled"):
        build_model("nfnet_pico", se_kind="eca", se_place="straddled")
