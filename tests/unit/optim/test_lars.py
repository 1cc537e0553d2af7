"""LARS against NumPy in float64, and the parameters that take plain momentum steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import LARS, param_groups
from normfree.optim.functional import lars_rate
from tests.unit.optim.test_agc import small_net
from tests.unit.optim.test_sgd import gradient, parameters, run


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("trust", [None, 0.01, 0.5])
def test_twenty_steps_in_numpy(momentum, decay, trust):
    params = parameters()
    optimizer = LARS(params, lr=0.3, momentum=momentum, weight_decay=decay, trust=trust)
    w = [p.detach().numpy().copy() for p in params]
    v = [np.zeros_like(x) for x in w]
    rng = np.random.default_rng(1)
    for step in range(20):
        for i, p in enumerate(params):
            g = gradient(rng, step, p.shape)
            p.grad = torch.as_tensor(g)
            rate = 1.0
            if trust is not None and w[i].ndim > 1:
                norm = np.sqrt((w[i] ** 2).sum())
                rate = trust * norm / (np.sqrt((g**2).sum()) + decay * norm)
            v[i] = momentum * v[i] + 0.3 * rate * (g + decay * w[i])
            w[i] = w[i] - v[i]
        optimizer.step()
        for p, want in zip(params, w, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-10, atol=1e-14)


def test_the_first_step_is_a_share_of_the_norm_whatever_the_gradient():
    for scale in (1e-6, 1.0, 1e6):
        w = nn.Parameter(torch.eye(3))
        w.grad = scale * torch.tensor([[1.0, -2.0, 3.0]] * 3)
        LARS([w], lr=0.5, trust=0.1).step()
        moved = (w.detach() - torch.eye(3)).norm()
        assert moved.item() == pytest.approx(0.5 * 0.1 * 3**0.5, rel=1e-5)


@pytest.mark.parametrize(("weight", "grad"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_where_a_norm_is_zero_the_rate_is_one(weight, grad):
    w, g = torch.full((2, 2), weight), torch.full((2, 2), grad)
    for decay in (0.0, 0.1):
        assert lars_rate(g, w, trust=0.001, weight_decay=decay) == 1
    p = nn.Parameter(w.clone())
    p.grad = g
    LARS([p], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(p.detach(), w - 0.5 * (g + 0.1 * w))


def test_groups_have_their_own_trust_and_decay():
    net = small_net()
    groups = param_groups(net, weight_decay=0.1)
    groups[1]["trust"] = None
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    LARS(groups, lr=0.5, trust=0.01).step()
    for name, p in net.named_parameters():
        w, g = before[name], torch.ones_like(p)
        decay = 0.1 if name.endswith("weight") else 0.0
        rate = lars_rate(g, w, 0.01, decay) if name == "conv.weight" else 1.0
        torch.testing.assert_close(p.detach(), w - 0.5 * rate * (g + decay * w))


def test_without_trust_it_is_torch_s_sgd_while_the_rate_is_constant():
    ours, theirs = parameters(), parameters()
    run(LARS(ours, lr=0.05, weight_decay=0.1, trust=None), ours, 20)
    run(torch.optim.SGD(theirs, lr=0.05, momentum=0.9, weight_decay=0.1), theirs, 20)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "setting", [{"lr": -0.1}, {"momentum": -1}, {"weight_decay": -1e-5}, {"trust": 0.0}], ids=str
)
def test_settings_out_of_range(setting):
    (name,) = setting
    with pytest.raises(UserError, match=f"{name} must"):
        LARS(parameters(), **setting)
    optimizer = LARS(parameters())
    with pytest.raises(UserError, match=f"{name} must"):
        optimizer.add_param_group({"params": parameters(), **setting})
