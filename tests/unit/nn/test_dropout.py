"""Dropout and stochastic depth: drop rates, masks and scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree import UserError
from normfree.nn import Dropout, StochasticDepth
from normfree.random import example_keys

N = 20_000
KEYS = torch.from_numpy(example_keys(0, 0, np.arange(N)))


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_frequency_and_scale(rate):
    tolerance = 5 * (rate * (1 - rate) / N) ** 0.5  # five standard deviations
    branch = StochasticDepth(rate, stream=1)(torch.ones(N, 2, 1, 1), KEYS)
    assert set(branch.unique().tolist()) == {0.0, 1.0}  # not rescaled
    assert torch.equal(branch[:, 0], branch[:, 1])  # the whole branch of an example
    assert (branch[:, 0] == 0).double().mean().item() == pytest.approx(rate, abs=tolerance)

    features = Dropout(rate, stream=1)(torch.ones(N, 3), KEYS)
    kept = features != 0
    torch.testing.assert_close(features[kept], torch.full_like(features[kept], 1 / (1 - rate)))
    dropped = 1 - kept.double().mean(dim=0)
    assert (dropped - rate).abs().max() < tolerance
    correlation = torch.corrcoef(kept.double().T) - torch.eye(3)
    assert correlation.abs().max() < 5 / N**0.5  # features drop independently


@pytest.mark.parametrize("kind", [Dropout, StochasticDepth])
def test_a_mask_follows_the_example_whatever_the_batch(kind):
    shape = (2, 8) if kind is Dropout else (2, 8, 2, 2)
    x = torch.randn(64, *shape[1:])
    keys, order = KEYS[:64], torch.randperm(64)
    layer = kind(0.5, stream=3)
    whole = layer(x, keys)
    assert torch.equal(layer(x[order], keys[order]), whole[order])
    assert torch.equal(layer(x[5:6], keys[5:6]), whole[5:6])
    assert torch.equal(layer(x, keys), whole)  # nothing is consumed


@pytest.mark.parametrize("kind", [Dropout, StochasticDepth])
def test_layers_and_epochs_drop_independently(kind):
    shape = (N, 1) if kind is Dropout else (N, 1, 1, 1)
    x = torch.ones(shape)
    later = torch.from_numpy(example_keys(0, 1, np.arange(N)))
    masks = [kind(0.5, stream=s)(x, k) for s, k in [(0, KEYS), (1, KEYS), (2, KEYS), (0, later)]]
    correlation = torch.corrcoef(torch.stack([m.flatten() for m in masks])) - torch.eye(4)
    assert correlation.abs().max() < 5 / N**0.5


@pytest.mark.parametrize("kind", [Dropout, StochasticDepth])
def test_identity_in_evaluation_and_at_rate_zero(kind):
    x = torch.randn(4, 3) if kind is Dropout else torch.randn(4, 3, 2, 2)
    assert kind(0.5, stream=0).eval()(x, KEYS[:4]) is x
    assert kind(0.0, stream=0)(x) is x
    assert list(kind(0.5, stream=0).state_dict()) == []


@pytest.mark.parametrize("kind", [Dropout, StochasticDepth])
def test_gradient_is_the_mask_and_dtype_is_kept(kind):
    shape = (64, 4) if kind is Dropout else (64, 4, 2, 2)
    x = torch.ones(shape, requires_grad=True)
    y = kind(0.5, stream=0)(x, KEYS[:64])
    y.sum().backward()
    assert torch.equal(x.grad, y)
    assert kind(0.5, stream=0)(x.bfloat16(), KEYS[:64]).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [Dropout, StochasticDepth])
def test_a_layer_draws_from_no_generator(kind):
    x = torch.ones(4, 3) if kind is Dropout else torch.ones(4, 3, 2, 2)
    state = torch.get_rng_state()
    with pytest.raises(UserError, match="need keys in training"):
        kind(0.5, stream=0)(x)
    assert torch.equal(torch.get_rng_state(), state)
