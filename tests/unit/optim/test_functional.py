"""Unit-wise norms and clipping by their invariants, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from normfree import UserError
from normfree.optim.functional import (
    adaptive_clip,
    advised_clipping,
    clip_scale,
    ema_decay,
    nesterov_momentum,
    unitwise_norm,
)

SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=1, max_side=4)
NUMBERS = st.floats(-1e3, 1e3, width=32)
LAYERS = {
    "linear": torch.nn.Linear(6, 4),
    "conv1d": torch.nn.Conv1d(6, 4, 3),
    "conv2d": torch.nn.Conv2d(6, 4, 3),
    "conv3d": torch.nn.Conv3d(6, 4, 3),
    "grouped": torch.nn.Conv2d(8, 4, 3, groups=2),
    "depthwise": torch.nn.Conv2d(4, 4, 3, groups=4),
    "pointwise": torch.nn.Conv2d(6, 4, 1),
}


def norms(x):
    """The reference's rule: one norm where squeezing leaves at most one axis."""
    x = np.asarray(x, dtype=np.float64)
    if np.squeeze(x).ndim <= 1:
        return np.sqrt((x**2).sum())
    return np.sqrt((x**2).sum(axis=tuple(range(1, x.ndim)), keepdims=True))


def clipped(grad, param, clipping, eps):
    largest = clipping * np.maximum(norms(param), eps)
    norm = norms(grad)
    return np.where(norm > largest, grad * (largest / np.maximum(norm, 1e-6)), grad)


@st.composite
def pairs(draw):
    shape = draw(SHAPES)
    scale = 10.0 ** draw(st.integers(-8, 2))  # scale of the gradient, from negligible to large
    arrays = [draw(hnp.arrays(np.float64, shape, elements=NUMBERS)) for _ in range(2)]
    return np.asarray(arrays[0] * scale), arrays[1]


@given(pairs())
def test_norms_are_numpy_s(pair):
    for x in pair:
        ours = unitwise_norm(torch.from_numpy(x))
        np.testing.assert_allclose(ours.numpy(), norms(x), rtol=1e-12)
        torch.broadcast_shapes(ours.shape, x.shape)


@given(pairs(), st.sampled_from([0.01, 0.16, 2.0]), st.sampled_from([1e-3, 1.0]))
def test_no_unit_exceeds_its_threshold_and_small_ones_are_unchanged(pair, clipping, eps):
    grad, param = pair
    ours = adaptive_clip(torch.from_numpy(grad), torch.from_numpy(param), clipping, eps).numpy()
    np.testing.assert_allclose(ours, clipped(grad, param, clipping, eps), rtol=1e-10, atol=1e-300)
    largest = clipping * np.maximum(norms(param), eps)
    assert (norms(ours) <= largest * (1 + 1e-12)).all()
    quiet = np.broadcast_to(norms(grad) <= largest, grad.shape)
    np.testing.assert_array_equal(ours[quiet], grad[quiet])  # bit for bit
    scale = clip_scale(torch.from_numpy(grad), torch.from_numpy(param), clipping, eps)
    assert ((scale > 0) & (scale <= 1)).all()


@given(pairs(), st.sampled_from([0.01, 2.0]))
def test_a_whole_tensor_is_clipped_like_a_vector(pair, clipping):
    grad, param = pair
    arrays = torch.from_numpy(grad), torch.from_numpy(param)
    ours = adaptive_clip(*arrays, clipping, unitwise=False).numpy()
    want = clipped(grad.ravel(), param.ravel(), clipping, 1e-3).reshape(grad.shape)
    np.testing.assert_allclose(ours, want, rtol=1e-10, atol=1e-300)
    assert clip_scale(*arrays, clipping, unitwise=False).ndim == 0


@given(pairs())
def test_clipping_keeps_the_direction_and_is_idempotent(pair):
    grad, param = map(torch.from_numpy, pair)
    once = adaptive_clip(grad, param)
    assert (once * grad >= 0).all()
    torch.testing.assert_close(adaptive_clip(once, param), once, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_only_the_row_of_a_large_unit_is_clipped(name):
    weight = LAYERS[name].weight.detach()
    generator = torch.Generator().manual_seed(0)
    grad = 1e-5 * torch.randn(weight.shape, generator=generator)
    grad[2] *= 1e6
    ours = adaptive_clip(grad, weight, clipping=0.01)
    others = torch.arange(len(weight)) != 2
    assert torch.equal(ours[others], grad[others])
    assert ours[2].norm().item() == pytest.approx(0.01 * weight[2].norm().item(), rel=1e-6)
    assert unitwise_norm(grad).shape == (len(weight), *[1] * (weight.ndim - 1))


@pytest.mark.parametrize("shape", [(), (7,), (1, 7), (7, 1), (7, 1, 1, 1), (1, 1, 1, 7), (1, 1)])
def test_gains_and_biases_have_one_norm_in_any_shape(shape):
    assert unitwise_norm(torch.ones(shape)).ndim == 0


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (3, 4, 2, 2)])
def test_zero_weights_move_and_zero_gradients_stay(shape):
    zeros, ones = torch.zeros(shape), torch.ones(shape)
    moved = adaptive_clip(ones, zeros, clipping=0.01, eps=1e-3)
    torch.testing.assert_close(unitwise_norm(moved), torch.full_like(unitwise_norm(ones), 1e-5))
    assert torch.equal(adaptive_clip(zeros, ones), zeros)
    assert torch.equal(adaptive_clip(zeros, zeros), zeros)


def test_lambda_and_floor_change_the_result():
    grad, param = torch.ones(4), torch.full((4,), 0.5)
    results = [adaptive_clip(grad, param, c, e) for c, e in [(0.01, 1e-3), (0.1, 1e-3), (0.01, 10)]]
    assert [round(r.norm().item(), 6) for r in results] == [0.01, 0.1, 0.1]


def test_non_finite_gradients_stay_visible():
    for bad in (torch.inf, torch.nan):
        grad = torch.tensor([[1.0, bad], [1.0, 1.0]])
        ours = adaptive_clip(grad, torch.ones(2, 2))
        assert not ours[0].isfinite().all()
        assert ours[1].isfinite().all()


def test_empty_tensors():
    for shape in [(0,), (0, 3), (3, 0), (0, 3, 3)]:
        assert adaptive_clip(torch.zeros(shape), torch.zeros(shape)).shape == shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_the_invariant_within_its_precision(dtype):
    g = torch.Generator().manual_seed(0)
    grad, param = (torch.randn(64, 32, 3, 3, generator=g).to(dtype) for _ in range(2))
    ours = adaptive_clip(grad, param, clipping=0.01)
    assert ours.dtype == dtype
    share = unitwise_norm(ours.double()) / unitwise_norm(param.double())
    torch.testing.assert_close(share, torch.full_like(share, 0.01), rtol=2e-2, atol=0)


def test_advised_clipping_agrees_with_the_paper_and_falls_as_batches_grow():
    assert [advised_clipping(batch) for batch in (1024, 2048, 4096, 65536)] == [0.01] * 4
    assert [advised_clipping(batch) for batch in (1, 64)] == [
        0.16
    ] * 2  # within the range that the paper studied
    assert advised_clipping(512) == pytest.approx(0.02)
    falling = [advised_clipping(batch) for batch in range(1, 5000)]
    assert falling == sorted(falling, reverse=True)
    with pytest.raises(UserError, match="at least one example; got 0"):
        advised_clipping(0)


def test_nesterov_is_a_look_ahead():
    """u = g + μ(μv + g); for a constant gradient, u and v converge to g/(1 − μ)."""
    direction, velocity = torch.zeros(()), torch.zeros((), dtype=torch.float64)
    for _ in range(200):
        direction, velocity = nesterov_momentum(torch.tensor(2.0).double(), velocity, 0.9)
    assert direction.item() == pytest.approx(20, rel=1e-8)
    assert velocity.item() == pytest.approx(20, rel=1e-8)


def test_ema_decay_warms_up_then_stays():
    decays = [ema_decay(t, 0.9) for t in range(200)]
    assert decays[0] == 0.1
    assert decays[1] == 2 / 11
    assert decays == sorted(decays)
    assert decays[79] < 0.9
    assert decays[80:] == [0.9] * 120
