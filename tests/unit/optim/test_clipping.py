"""The three kinds of clipping, for any optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import clip_grad_agc_, clip_gradients_, param_groups
from tests.unit.optim.test_agc import gradients, images, loss_of, small_net


def net_with_large_gradients():
    net = small_net()
    loss_of(net, images()).backward()
    return net


@pytest.mark.parametrize("clip", ["unit", "layer"])
def test_agc_counts_the_units_eligible_for_clipping(clip):
    net, twin = net_with_large_gradients(), net_with_large_gradients()
    clipped, total = clip_gradients_(param_groups(net, clipping=0.02), clip, clipping=0.5)
    unitwise = clip == "unit"
    assert clipped == clip_grad_agc_(param_groups(twin, clipping=0.02), unitwise=unitwise) > 0
    assert total == (8 + 1 + 1 if unitwise else 3)  # the classifier's weight is excluded
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_the_global_norm_is_that_of_all_groups():
    net = net_with_large_gradients()
    before = gradients(net)
    norm = torch.cat([g.flatten() for g in before.values()]).norm()
    groups = param_groups(net, clipping=0.02)
    clipped, total = clip_gradients_(groups, "global", clipping=2 * norm.item())
    assert (clipped, total) == (0, 1)
    for name, p in net.named_parameters():
        assert torch.equal(p.grad, before[name])
    clipped, total = clip_gradients_(groups, "global", clipping=norm.item() / 4)
    assert (clipped, total) == (1, 1)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, before[name] / 4, rtol=1e-5, atol=1e-8)


def test_without_gradients_nothing_is_clipped():
    groups = [{"params": [nn.Parameter(torch.ones(3))]}]
    counts = [clip_gradients_(groups, clip) for clip in ("unit", "layer", "global")]
    assert counts == [(0, 0), (0, 0), (0, 1)]


def test_the_floor_of_the_norm_reaches_agc():
    w = nn.Parameter(torch.zeros(3))
    for clip in ("unit", "layer"):
        w.grad = torch.ones(3)
        clip_gradients_([{"params": [w]}], clip, clipping=0.1, eps=0.5)
        assert w.grad.norm().item() == pytest.approx(0.05)


def test_an_unknown_kind():
    with pytest.raises(UserError, match="unknown kind of clipping 'units'; did you mean unit"):
        clip_gradients_([], "units")
