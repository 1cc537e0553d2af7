"""Muon against NumPy in float64: what is orthogonalized, and what Adam moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import Muon, param_groups
from normfree.optim.muon import COEFFICIENTS, orthogonalized
from tests.unit.optim.test_agc import small_net
from tests.unit.optim.test_sgd import gradient, parameters


def newton_schulz(x, steps=5):
    """The iteration on singular values, which is all that it changes."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    a, b, c = COEFFICIENTS
    s = s / np.sqrt((s**2).sum())
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return u * s @ v


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("orthogonal", [True, False])
def test_twenty_steps_in_numpy(weight_decay, orthogonal):
    params = parameters()
    optimizer = Muon(params, momentum=0.9, weight_decay=weight_decay, orthogonal=orthogonal)
    w = [p.detach().numpy().copy() for p in params]
    v, m, s = ([np.zeros_like(x) for x in w] for _ in range(3))
    rng = np.random.default_rng(1)
    for step in range(20):
        rate = 0.1 / (1 + step)
        optimizer.param_groups[0]["lr"] = rate
        for i, p in enumerate(params):
            g = gradient(rng, step, p.shape)
            p.grad = torch.as_tensor(g)
            if orthogonal and sum(side > 1 for side in g.shape) > 1:
                v[i] = 0.9 * v[i] + g
                rows = (g + 0.9 * v[i]).reshape(len(g), -1)
                direction = newton_schulz(rows) * max(1, rows.shape[0] / rows.shape[1]) ** 0.5
                w[i] = (1 - rate * weight_decay) * w[i] - rate * direction.reshape(g.shape)
            else:
                m[i], s[i] = 0.9 * m[i] + 0.1 * g, 0.99 * s[i] + 0.01 * g**2
                mean, square = m[i] / (1 - 0.9 ** (step + 1)), s[i] / (1 - 0.99 ** (step + 1))
                w[i] = (1 - 0.1 * rate * weight_decay) * w[i]
                w[i] = w[i] - 0.1 * rate * mean / (np.sqrt(square) + 1e-8)
        optimizer.step()
        for p, want in zip(params, w, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(6, 6), (4, 40), (40, 4), (3, 8, 2), (64, 576)])
def test_singular_values_end_near_one(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    singular = torch.linalg.svdvals(orthogonalized(x))
    assert 0.6 < singular.min() <= singular.max() < 1.3


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (64, 4, 1, 1), (16, 144)])
def test_a_unit_moves_by_the_rate_whatever_the_gradient(shape):
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-4, 1.0, 1e6):
        w = nn.Parameter(torch.zeros(shape))
        w.grad = scale * torch.randn(shape, generator=generator)
        Muon([w], lr=0.5).step()
        moved = w.detach().flatten(1).norm(dim=1)
        assert moved.square().mean().sqrt().item() == pytest.approx(0.5, rel=0.3)


def test_a_gradient_of_zero_moves_nothing():
    w, gain = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2))
    w.grad, gain.grad = torch.zeros(2, 3), torch.zeros(2)
    Muon([w, gain], lr=0.5).step()
    assert torch.equal(w, torch.ones(2, 3))
    assert torch.equal(gain, torch.ones(2))


def test_a_scalar_at_zero_leaves_it_at_once():
    """SkipInit gains do, unlike under AGC, which holds them to λε a step."""
    gain = nn.Parameter(torch.zeros(()))
    gain.grad = torch.tensor(-1e-5)
    Muon([gain], lr=0.03).step()
    assert gain.item() == pytest.approx(0.003, rel=1e-2)


def test_the_groups_of_a_network_say_what_is_orthogonal():
    net = small_net()
    groups = param_groups(net, clipping=None)
    for group in groups:
        group["orthogonal"] = group["name"] != "classifier weight"
    optimizer = Muon(groups)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert set(optimizer.state[p]) == optimizer.kept(p, group)
            matrix = group["name"] == "weights"
            assert ("momentum_buffer" in optimizer.state[p]) == matrix


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1)])
def test_betas_are_decays(betas):
    with pytest.raises(UserError, match="betas must be at least 0 and below 1"):
        Muon(parameters(), betas=betas)
