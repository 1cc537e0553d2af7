"""AGCSGD against NumPy in float64, torch.optim.SGD and its own saved states."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import AGCSGD, warmup_cosine
from tests.unit.optim.test_functional import clipped

SHAPES = [(), (5,), (4, 3), (4, 2, 3, 3)]
SETTINGS = [
    {"momentum": m, "nesterov": n, "weight_decay": d, "clipping": c}
    for m, n, d, c in itertools.product((0.0, 0.9), (True, False), (0.0, 0.05), (None, 0.01, 0.5))
]


def gradient(rng, step, shape):
    return rng.normal(size=shape) * (0.1 if step % 2 else 10.0)


def parameters(dtype=torch.float64):
    rng = np.random.default_rng(0)
    values = [np.zeros(()), *(rng.normal(size=shape) for shape in SHAPES[1:])]
    return [nn.Parameter(torch.tensor(value, dtype=dtype)) for value in values]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_twenty_steps_in_numpy(settings):
    params = parameters()
    optimizer = AGCSGD(params, lr=0.05, **settings)
    w = [p.detach().numpy().copy() for p in params]
    v = [np.zeros_like(x) for x in w]
    momentum, clipping = settings["momentum"], settings["clipping"]
    rng = np.random.default_rng(1)
    for step in range(20):
        for i, p in enumerate(params):
            g = gradient(rng, step, p.shape)
            p.grad = torch.as_tensor(g)
            g = g if clipping is None else clipped(g, w[i], clipping, 1e-3)
            g = g + settings["weight_decay"] * w[i]
            v[i] = momentum * v[i] + g
            direction = g + momentum * v[i] if settings["nesterov"] else v[i]
            w[i] = w[i] - 0.05 * direction
        optimizer.step()
        for p, want in zip(params, w, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-10, atol=1e-14)
    units = 1 + 1 + 4 + 4
    assert optimizer.total_units == (0 if clipping is None else units)


def test_layer_by_layer_in_a_group_of_its_own():
    unit, layer = parameters(), parameters()
    groups = [{"params": unit}, {"params": layer, "unitwise": False}]
    optimizer = AGCSGD(groups, lr=0.05, momentum=0.0, clipping=0.01)
    rng = np.random.default_rng(1)
    want = []
    for a, b in zip(unit, layer, strict=True):
        g = gradient(rng, 0, a.shape)
        a.grad, b.grad = torch.as_tensor(g), torch.as_tensor(g)
        w = a.detach().numpy()
        flat = clipped(np.ravel(g), np.ravel(w), 0.01, 1e-3)
        want.append((w - 0.05 * clipped(g, w, 0.01, 1e-3), w - 0.05 * flat.reshape(g.shape)))
    optimizer.step()
    for a, b, (by_unit, by_layer) in zip(unit, layer, want, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), by_unit, rtol=1e-12)
        np.testing.assert_allclose(b.detach().numpy(), by_layer, rtol=1e-12)
        assert (a.ndim < 2) == np.array_equal(by_unit, by_layer)
    assert optimizer.total_units == optimizer.clipped_units == (1 + 1 + 4 + 4) + 4


def test_a_state_saved_without_unitwise_loads_as_unitwise():
    optimizer = AGCSGD(parameters(), lr=0.05)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["unitwise"]
    resumed = AGCSGD(parameters(), lr=0.05, unitwise=False)
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["unitwise"] is True


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("nesterov", [True, False])
def test_without_clipping_it_is_torch_s_sgd(dtype, momentum, decay, nesterov):
    ours, theirs = parameters(dtype), parameters(dtype)
    settings = {"lr": 0.05, "momentum": momentum, "weight_decay": decay}
    optimizers = [
        AGCSGD(ours, clipping=None, nesterov=nesterov, **settings),
        torch.optim.SGD(theirs, nesterov=nesterov and momentum > 0, **settings),
    ]
    rng = np.random.default_rng(1)
    for step in range(20):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.tensor(gradient(rng, step, a.shape), dtype=dtype)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6 if dtype == torch.float32 else 1e-13, atol=1e-6)


def quadratic(p):
    return sum((x - 1).square().sum() for x in p)


def run(optimizer, params, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        quadratic(params).backward()
        optimizer.step()


def test_the_state_dict_resumes_bit_for_bit():
    params = parameters(torch.float32)
    optimizer = AGCSGD(params, lr=0.05, weight_decay=0.01)
    run(optimizer, params, 5)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = AGCSGD(twins, lr=1.0, momentum=0.0)
    resumed.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    run(optimizer, params, 5)
    run(resumed, twins, 5)
    for a, b in zip(params, twins, strict=True):
        assert torch.equal(a, b)
    assert resumed.param_groups[0]["lr"] == 0.05


def test_a_copy_is_independent():
    params = parameters()
    optimizer = AGCSGD(params, lr=0.05)
    run(optimizer, params, 2)
    twin = copy.deepcopy(optimizer)
    assert (twin.clipped_units, twin.total_units) == (0, 0)
    before = [p.detach().clone() for p in params]
    twin_params = twin.param_groups[0]["params"]
    run(twin, twin_params, 1)
    for p, kept in zip(params, before, strict=True):
        assert torch.equal(p, kept)
    run(optimizer, params, 1)
    for a, b in zip(params, twin_params, strict=True):
        assert torch.equal(a, b)


def test_a_closure_is_evaluated_once_with_gradients():
    params, calls = parameters(), []
    optimizer = AGCSGD(params, lr=0.05)

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = quadratic(params)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert calls == [True]
    assert quadratic(params) < first


def test_groups_have_their_own_settings():
    a, b, c = (nn.Parameter(torch.ones(4)) for _ in range(3))
    groups = [
        {"params": [a], "lr": 0.1},
        {"params": [b], "lr": 1.0, "clipping": None},
        {"params": [c], "weight_decay": 0.5},
    ]
    optimizer = AGCSGD(groups, lr=0.2, momentum=0.0, clipping=0.01)
    for p in (a, b, c):
        p.grad = torch.full((4,), 3.0)
    optimizer.step()
    moved = [(1 - p.detach()[0]).item() for p in (a, b, c)]
    assert moved == pytest.approx([0.1 * 0.01, 3.0, 0.2 * (0.01 + 0.5)], rel=1e-4)
    assert optimizer.total_units == optimizer.clipped_units == 2


def test_a_scheduler_of_torch_sets_the_rate():
    params = parameters()
    optimizer = AGCSGD(params, lr=0.4)
    rule = {"peak": 1.0, "warmup_steps": 2.5, "total_steps": 10}
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: warmup_cosine(t, **rule))
    for step in range(12):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4 * warmup_cosine(step, **rule))
        before = [p.detach().clone() for p in params]
        run(optimizer, params, 1)
        still = all(torch.equal(p, kept) for p, kept in zip(params, before, strict=True))
        assert still == (step in (0, 10, 11))  # the first update and those after the end
        scheduler.step()


def test_counts_are_per_step():
    p = nn.Parameter(torch.ones(4))
    optimizer = AGCSGD([p], lr=0.1)
    p.grad = torch.ones(4)
    optimizer.step()
    assert (optimizer.clipped_units, optimizer.total_units) == (1, 1)
    optimizer.zero_grad()
    kept = p.detach().clone()
    optimizer.step()
    assert (optimizer.clipped_units, optimizer.total_units) == (0, 0)
    assert torch.equal(p, kept)
    p.grad = torch.full((4,), 1e-9)
    optimizer.step()
    assert (optimizer.clipped_units, optimizer.total_units) == (0, 1)


def test_the_step_leaves_the_gradient_and_the_memory_format_alone():
    conv = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    optimizer = AGCSGD(conv.parameters(), lr=0.1, weight_decay=0.1)
    conv(torch.randn(2, 4, 5, 5)).square().sum().backward()
    before = conv.weight.grad.clone()
    optimizer.step()
    assert torch.equal(conv.weight.grad, before)
    velocity = optimizer.state[conv.weight]["momentum_buffer"]
    for tensor in (conv.weight, velocity):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "setting",
    [{"lr": -0.1}, {"momentum": -1}, {"weight_decay": -1e-5}, {"clipping": 0}, {"eps": 0.0}],
    ids=str,
)
def test_settings_out_of_range(setting):
    (name,) = setting
    with pytest.raises(UserError, match=f"{name} must"):
        AGCSGD(parameters(), **setting)
    optimizer = AGCSGD(parameters(), lr=0.1)
    with pytest.raises(UserError, match=f"{name} must"):
        optimizer.add_param_group({"params": parameters(), **setting})
