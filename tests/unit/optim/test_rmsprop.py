"""TensorFlow's RMSProp against NumPy in float64, and its differences from PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import RMSProp, param_groups
from tests.unit.optim.test_agc import small_net
from tests.unit.optim.test_sgd import gradient, parameters


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("decay", [0.9, 0.5])
@pytest.mark.parametrize("eps", [1e-3, 1e-8])
def test_twenty_steps_in_numpy(momentum, weight_decay, decay, eps):
    params = parameters()
    settings = {"momentum": momentum, "decay": decay, "eps": eps, "weight_decay": weight_decay}
    optimizer = RMSProp(params, **settings)
    w = [p.detach().numpy().copy() for p in params]
    v = [np.zeros_like(x) for x in w]
    s = [np.ones_like(x) for x in w]
    rng = np.random.default_rng(1)
    for step in range(20):
        rate = 0.1 / (1 + step)  # with a schedule, past steps keep their learning rate
        optimizer.param_groups[0]["lr"] = rate
        for i, p in enumerate(params):
            g = gradient(rng, step, p.shape)
            p.grad = torch.as_tensor(g)
            g = g + weight_decay * w[i]
            s[i] = decay * s[i] + (1 - decay) * g**2
            v[i] = momentum * v[i] + rate * g / np.sqrt(s[i] + eps)
            w[i] = w[i] - v[i]
        optimizer.step()
        for p, want in zip(params, w, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-10, atol=1e-14)


def test_the_defaults_are_efficientnet_s():
    settings = RMSProp(parameters()).param_groups[0]
    assert (settings["decay"], settings["momentum"], settings["eps"]) == (0.9, 0.9, 1e-3)


def test_the_first_step_is_shorter_than_torch_s():
    ours, theirs = (nn.Parameter(torch.zeros(())) for _ in range(2))
    ours.grad = theirs.grad = torch.tensor(0.01)
    RMSProp([ours], lr=0.1).step()
    torch.optim.RMSprop([theirs], lr=0.1, alpha=0.9, momentum=0.9, eps=1e-3).step()
    assert ours.item() == pytest.approx(-0.1 * 0.01 / (0.9 + 0.1 * 1e-4 + 1e-3) ** 0.5, rel=1e-5)
    assert theirs.item() == pytest.approx(-0.1 * 0.01 / ((0.1 * 1e-4) ** 0.5 + 1e-3), rel=1e-5)


def test_for_a_constant_gradient_both_converge_to_the_same_steps():
    """They agree, up to ε, once the initial mean square has decayed."""
    ours, theirs = (nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2))
    optimizers = [
        RMSProp([ours], lr=0.1, eps=1e-16),
        torch.optim.RMSprop([theirs], lr=0.1, alpha=0.9, momentum=0.9, eps=1e-8),
    ]
    before = []
    for _ in range(400):
        before = [ours.item(), theirs.item()]
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = torch.tensor(3.0, dtype=torch.float64)
            optimizer.step()
    steps = [before[0] - ours.item(), before[1] - theirs.item()]
    assert steps == pytest.approx([0.1 / (1 - 0.9)] * 2, rel=1e-6)


def test_groups_have_their_own_decay():
    net = small_net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = RMSProp(param_groups(net, weight_decay=0.1), lr=0.5, eps=0.0)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == name.endswith("bias")


@pytest.mark.parametrize(
    "setting",
    [{"lr": -0.1}, {"momentum": -1}, {"weight_decay": -1e-5}, {"eps": -1.0}, {"decay": 1.0}],
    ids=str,
)
def test_settings_out_of_range(setting):
    (name,) = setting
    with pytest.raises(UserError, match=f"{name} must"):
        RMSProp(parameters(), **setting)
    optimizer = RMSProp(parameters())
    with pytest.raises(UserError, match=f"{name} must"):
        optimizer.add_param_group({"params": parameters(), **setting})
