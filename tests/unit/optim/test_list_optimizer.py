"""Behavior common to all optimizers that update lists of parameters."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import AGCSGD, LARS, Muon, RMSProp
from normfree.optim.functional import lars_rate
from tests.unit.optim.test_sgd import parameters, quadratic, run

kinds = pytest.mark.parametrize(
    ("kind", "lr"), [(AGCSGD, 0.05), (LARS, 0.05), (RMSProp, 0.01), (Muon, 0.05)]
)


@kinds
def test_the_state_dict_resumes_to_the_bit(kind, lr):
    params = parameters()
    optimizer = kind(params, lr=lr, weight_decay=0.01)
    run(optimizer, params, 5)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = kind(twins, lr=1.0, momentum=0.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(optimizer, params, 5)
    run(resumed, twins, 5)
    for a, b in zip(params, twins, strict=True):
        assert torch.equal(a, b)


@kinds
def test_a_closure_and_a_parameter_without_gradient(kind, lr):
    params, idle = parameters(), nn.Parameter(torch.ones(2, 2))
    optimizer = kind([*params, idle], lr=lr)

    def closure():
        optimizer.zero_grad()
        loss = quadratic(params)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert quadratic(params) < first
    assert torch.equal(idle, torch.ones(2, 2))


@kinds
def test_mixed_dtypes_in_one_group(kind, lr):
    """Each parameter takes the same steps as on its own."""
    params = [nn.Parameter(torch.ones(3, 3, dtype=d)) for d in (torch.float32, torch.float64) * 2]
    alone = [nn.Parameter(p.detach().clone()) for p in params]
    optimizers = [kind(params, lr=lr), *(kind([p], lr=lr) for p in alone)]
    for step in range(3):
        for i, p in enumerate((*params, *alone)):
            p.grad = torch.full_like(p, 0.1 * (i % 4 + step))
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(params, alone, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, torch.ones_like(a))


@kinds
def test_a_parameter_whose_gradient_comes_later(kind, lr):
    early, late = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = kind([early, late], lr=lr)
    early.grad = torch.ones(2, 2)
    optimizer.step()
    assert late not in optimizer.state
    late.grad = torch.ones(2, 2)
    optimizer.step()
    alone = nn.Parameter(torch.ones(2, 2))
    alone.grad = torch.ones(2, 2)
    kind([alone], lr=lr).step()
    assert torch.equal(late, alone)


@kinds
def test_the_error_names_a_sparse_gradient(kind, lr):
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    optimizer = kind([{"params": [embedding.weight], "param_names": ["words.weight"]}], lr=lr)
    with pytest.raises(UserError, match=r"words\.weight has a sparse gradient"):
        optimizer.step()


SILLY = [float("nan"), float("inf"), -float("inf"), -1.0, "much"]


@kinds
@pytest.mark.parametrize("value", SILLY)
def test_invalid_settings(kind, lr, value):
    for setting in kind.ranges:
        with pytest.raises(UserError, match=f"{setting} must be .*; got {value!r}"):
            kind(parameters(), **{setting: value})
    for setting in ("momentum", "decay"):
        if setting in kind.ranges:
            with pytest.raises(UserError, match=f"{setting} must be at least 0 and below 1"):
                kind(parameters(), **{setting: 1.0})


@pytest.mark.parametrize("kind", [LARS, RMSProp])
def test_lists_match_the_equations_bit_for_bit(kind):
    """Compare with the equations, one tensor at a time."""
    params, settings = parameters(torch.float32), {"lr": 0.03, "weight_decay": 0.01}
    optimizer = kind(params, **settings)
    w = [p.detach().clone() for p in params]
    v, s = [torch.zeros_like(p) for p in w], [torch.ones_like(p) for p in w]
    for _ in range(10):
        optimizer.zero_grad()
        quadratic(params).backward()
        for i, p in enumerate(params):
            g = p.grad
            if kind is LARS:
                step = (g + 0.01 * w[i]) * 0.03
                if g.ndim > 1:
                    step = step * lars_rate(g, w[i], 0.001, 0.01)
            else:
                g = g + 0.01 * w[i]
                s[i].mul_(0.9).addcmul_(g, g, value=1 - 0.9)
                step = 0.03 * g / (s[i] + 1e-3).sqrt()
            v[i].mul_(0.9).add_(step)
            w[i].sub_(v[i])
        optimizer.step()
        for p, want in zip(params, w, strict=True):
            assert torch.equal(p, want)


def test_a_copy_and_a_pickle_keep_the_backend_and_a_state_dict_does_not():
    optimizer = AGCSGD(parameters(), backend="reference")
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert copied.backend == "reference"
    other = AGCSGD(parameters())
    other.load_state_dict(optimizer.state_dict())
    assert other.backend == "fused"


def test_the_layout_of_saved_states():
    """Changing the layout would break existing checkpoints."""
    optimizer = AGCSGD(parameters(), lr=0.1)
    run(optimizer, optimizer.param_groups[0]["params"], 1)
    saved = optimizer.state_dict()
    assert {key for state in saved["state"].values() for key in state} == {"momentum_buffer"}
    assert sorted(saved["param_groups"][0]) == [
        *("clipping", "eps", "lr", "momentum", "nesterov", "params", "unitwise", "weight_decay"),
    ]
