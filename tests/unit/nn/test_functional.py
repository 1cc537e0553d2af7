"""The equations of the networks against NumPy, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from normfree.nn.functional import (
    avg_pool2d_same,
    conv2d_same,
    max_pool2d_same,
    same_padding,
    squeeze_excite,
    standardize_weight,
)


def standardized(weight, gain, eps=1e-4):
    rows = weight.reshape(len(weight), -1)
    n = rows.shape[1]
    mean = rows.sum(axis=1, keepdims=True) / n
    var = ((rows - mean) ** 2).sum(axis=1, keepdims=True) / n
    return (gain[:, None] * (rows - mean) / np.sqrt(np.maximum(n * var, eps))).reshape(weight.shape)


@pytest.mark.parametrize(
    "shape", [(8, 4, 3, 3), (6, 1, 3, 3), (8, 16, 1, 1), (5, 2, 1, 7), (4, 9), (3, 2, 3, 3, 3)]
)
@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])  # the last is below the floor
def test_standardize_weight(shape, scale):
    rng = np.random.default_rng(0)
    weight, gain = scale * rng.normal(0.3, 1, shape), rng.normal(1, 0.5, shape[0])
    ours = standardize_weight(torch.from_numpy(weight), torch.from_numpy(gain))
    np.testing.assert_allclose(ours.numpy(), standardized(weight, gain), rtol=1e-10, atol=1e-12)
    assert ours.flatten(1).mean(dim=1).abs().max() < 1e-12
    norm = np.linalg.norm(ours.flatten(1), axis=1)
    below = np.linalg.norm(standardized(weight, np.ones(shape[0])).reshape(shape[0], -1), axis=1)
    np.testing.assert_allclose(norm, np.abs(gain) * below)
    assert (below < 0.5).all() if scale == 1e-4 else np.allclose(below, 1)


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 1, 1, 1)])  # a single weight equals its mean
def test_a_constant_filter_gives_zeros_and_finite_gradients(shape):
    weight = torch.full(shape, 0.7, requires_grad=True)
    gain = torch.ones(2, requires_grad=True)
    out = standardize_weight(weight, gain)
    assert out.abs().max() < 1e-4
    (out * torch.randn(shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert weight.grad.isfinite().all()
    assert gain.grad.isfinite().all()


def test_standardize_weight_gradient():
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=g, requires_grad=True)
    gain = torch.randn(3, dtype=torch.float64, generator=g, requires_grad=True)
    assert torch.autograd.gradcheck(standardize_weight, (weight, gain))


CASES = [
    (size, kernel, stride, dilation)
    for size, kernel, stride, dilation in itertools.product(
        range(1, 12), (1, 2, 3, 5), (1, 2, 3), (1, 2)
    )
]


def brute_convolution(x, w, stride, dilation):
    """Convolution along one axis, with TensorFlow's window positions and zeros outside."""
    size, kernel = len(x), len(w)
    out = -(-size // stride)
    reach = (kernel - 1) * dilation + 1
    before = max((out - 1) * stride + reach - size, 0) // 2
    places = [[o * stride - before + k * dilation for k in range(kernel)] for o in range(out)]
    return [sum(w[k] * x[p] for k, p in enumerate(row) if 0 <= p < size) for row in places]


def test_same_padding_by_brute_force():
    rng = np.random.default_rng(0)
    for size, kernel, stride, dilation in CASES:
        x, w = rng.normal(size=size), rng.normal(size=kernel)
        ours = conv2d_same(
            torch.from_numpy(x).view(1, 1, 1, size),
            torch.from_numpy(w).view(1, 1, 1, kernel),
            stride=(1, stride),
            dilation=(1, dilation),
        )
        case = (size, kernel, stride, dilation)
        want = brute_convolution(x, w, stride, dilation)
        assert ours.shape[-1] == -(-size // stride), case
        np.testing.assert_allclose(ours.flatten(), want, rtol=0, atol=1e-12, err_msg=str(case))


@given(st.integers(1, 64), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_same_padding_is_least_and_even(size, kernel, stride, dilation):
    before, after = same_padding(size, kernel, stride, dilation)
    assert 0 <= before <= after <= before + 1
    reach = (kernel - 1) * dilation + 1
    needed = (-(-size // stride) - 1) * stride + reach - size
    assert before + after == max(needed, 0)


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]))
def test_conv2d_same_is_separable_over_axes_and_groups(height, width, stride, groups):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, height, width, dtype=torch.float64, generator=g)
    w = torch.randn(8, 4 // groups, 3, 3, dtype=torch.float64, generator=g)
    bias = torch.randn(8, dtype=torch.float64, generator=g)
    (top, bottom), (left, right) = (same_padding(s, 3, stride) for s in (height, width))
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    want = F.conv2d(torch.from_numpy(padded), w, bias, stride, groups=groups)
    ours = conv2d_same(x, w, bias, (stride, stride), groups=groups)
    torch.testing.assert_close(ours, want)


def pools(x, size, stride, before, reduce):
    """Pool with a loop over the pixels inside the image."""
    height, width = x.shape
    rows, cols = -(-height // stride), -(-width // stride)
    top, left = before
    spans = lambda count, first, length: [  # noqa: E731
        slice(max(o * stride - first, 0), min(o * stride - first + size, length))
        for o in range(count)
    ]
    return np.array(
        [[reduce(x[r, c]) for c in spans(cols, left, width)] for r in spans(rows, top, height)]
    )


@pytest.mark.parametrize("height", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("width", [1, 4, 7])
def test_pooling_counts_only_pixels_that_exist(height, width):
    x = np.random.default_rng(0).normal(-3, 1, (height, width))  # negative: a padded zero would win
    image = torch.from_numpy(x)[None, None]
    mean = pools(x, 2, 2, (0, 0), np.mean)
    np.testing.assert_allclose(avg_pool2d_same(image)[0, 0], mean, rtol=1e-12)
    before = tuple(same_padding(s, 3, 2)[0] for s in (height, width))
    np.testing.assert_array_equal(max_pool2d_same(image)[0, 0], pools(x, 3, 2, before, np.max))


def test_squeeze_excite():
    rng = np.random.default_rng(0)
    x, w0, b0 = rng.normal(size=(3, 5, 4, 6)), rng.normal(size=(2, 5)), rng.normal(size=2)
    w1, b1 = rng.normal(size=(7, 2)), rng.normal(size=7)
    hidden = np.maximum(x.mean(axis=(2, 3)) @ w0.T + b0, 0)
    want = 2 / (1 + np.exp(-(hidden @ w1.T + b1)))
    ours = squeeze_excite(*_tensors(x), _tensors(w0, b0), _tensors(w1, b1))
    np.testing.assert_allclose(ours[:, :, 0, 0], want, rtol=1e-12)
    assert ours.shape == (3, 7, 1, 1)


def _tensors(*values):
    return tuple(torch.from_numpy(value) for value in values)
