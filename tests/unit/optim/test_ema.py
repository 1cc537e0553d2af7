"""The moving average: its equation, independence from the model, and state round trip."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import EMA


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))


def drift(model, step):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.sin(torch.arange(p.numel()).view_as(p) + step))


@pytest.mark.parametrize("decay", [0.99999, 0.5, 0.0])
def test_against_the_equation(decay):
    model = network().double()
    ema = EMA(model, decay=decay)
    want = [p.detach().clone() for p in model.parameters()]
    for step in range(30):
        drift(model, step)
        ema.update(step)
        d = min(decay, (1 + step) / (10 + step))
        want = [d * w + (1 - d) * p.detach() for w, p in zip(want, model.parameters(), strict=True)]
        for average, expected in zip(ema.model.parameters(), want, strict=True):
            torch.testing.assert_close(average, nn.Parameter(expected), rtol=1e-12, atol=1e-12)


def test_statistics_are_averaged_and_counters_copied():
    model = network()
    ema = EMA(model)
    model(torch.randn(16, 4))
    assert ema.model[1].num_batches_tracked == 0
    ema.update(0)
    assert ema.model[1].num_batches_tracked == 1
    first = model[1].running_mean.clone()
    torch.testing.assert_close(ema.model[1].running_mean, 0.9 * first)  # decay 1/10, from zeros
    model(torch.randn(16, 4))
    ema.update(1)
    want = 2 / 11 * 0.9 * first + 9 / 11 * model[1].running_mean
    torch.testing.assert_close(ema.model[1].running_mean, want)


def test_nothing_is_shared_and_the_model_is_not_modified():
    model = network()
    ema = EMA(model)
    ours = {t.data_ptr() for t in ema.model.state_dict().values()}
    assert ours.isdisjoint(t.data_ptr() for t in model.state_dict().values())
    assert model.training
    assert not ema.model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in ema.model.parameters())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    ema.update(3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_state_resumes():
    model = network()
    ema = EMA(model, decay=0.9)
    for step in range(3):
        drift(model, step)
        ema.update(step)
    other = EMA(network(), decay=0.9)
    other.load_state_dict({k: v.clone() for k, v in ema.state_dict().items()})
    other.source.load_state_dict(model.state_dict())
    for average in (ema, other):
        drift(average.source, 3)
        average.update(3)
    for name, value in ema.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_frozen_parameters_stay_bit_identical():
    model = network()
    model[0].requires_grad_(False)
    ema = EMA(model)
    for step in range(20):
        ema.update(step)
    for average, own in zip(ema.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(average, own)


def test_with_decay_zero_nothing_is_copied_or_averaged():
    model = network()
    ema = EMA(model, decay=0.0)
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert model.training

    def memory(network):
        return [t.data_ptr() for t in (*network.parameters(), *network.buffers())]

    assert memory(ema.model) == memory(model)
    model[0].weight.data = torch.ones(3, 4)  # as when a model is moved
    model.double()
    model(torch.randn(16, 4).double())
    ema.update(0)
    assert memory(ema.model) == memory(model)
    for name, value in model.state_dict().items():
        assert torch.equal(ema.state_dict()[name], value)


@pytest.mark.parametrize("decay", [float("nan"), float("inf"), -0.1, 1.0])
def test_an_invalid_decay_is_rejected(decay):
    with pytest.raises(UserError, match=f"decay must be at least 0 and below 1; got {decay}"):
        EMA(network(), decay=decay)
