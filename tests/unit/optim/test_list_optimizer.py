"""What every optimizer here does that updates one parameter after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from normfree.optim import AGCSGD, LARS, RMSProp
from tests.unit.optim.test_sgd import parameters, quadratic, run

kinds = pytest.mark.parametrize(("kind", "lr"), [(AGCSGD, 0.05), (LARS, 0.05), (RMSProp, 0.01)])


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
