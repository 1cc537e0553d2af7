"""SAM on a small network in NumPy, with gradients by hand: what the real one is compared with."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

RHO, RATE, MOMENTUM, STEPS = 0.3, 0.2, 0.9, 6


def start():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) * 0.7 for shape in [(5, 4), (5,), (3, 5), (3,)]]


def examples(step, n=10):
    rng = np.random.default_rng(step + 1)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, size=n)


def gradient(w, x, y):
    """Manual gradient of the mean cross-entropy of softmax(W₂ tanh(W₁x + b₁) + b₂)."""
    h = np.tanh(x @ w[0].T + w[1])
    z = np.exp(h @ w[2].T + w[3])
    d = (z / z.sum(1, keepdims=True) - np.eye(3)[y]) / len(y)
    dh = (d @ w[2]) * (1 - h**2)
    return [dh.T @ x, dh.sum(0), d.T @ h, d.sum(0)]


def ascent(g, rho=RHO):
    norm = np.sqrt(sum((a**2).sum() for a in g))
    return [rho * a / norm for a in g]


def sam_gradient(w, x, y, first):
    """The gradient at the weights perturbed along the gradient of the first examples."""
    up = ascent(gradient(w, x[:first], y[:first]))
    return gradient([a + b for a, b in zip(w, up, strict=True)], x, y)


def network(double=True):
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for p, value in zip(net.parameters(), start(), strict=True):
            p.copy_(torch.from_numpy(value))
    return net if double else net.float()


def loss_of(net, x, y):
    dtype = next(net.parameters()).dtype
    return F.cross_entropy(net(torch.as_tensor(x, dtype=dtype)), torch.as_tensor(y))


def assert_weights(net, w):
    for p, want in zip(net.parameters(), w, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-12, atol=1e-12)
