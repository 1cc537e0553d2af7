"""A step in the backward pass is the step after it, to the bit, with few gradients in memory."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from normfree import create_model
from normfree.optim import AGCSGD, EMA, in_backward, param_groups, sgd


def trained(in_backward: bool, *, ema: bool, steps: int = 4, checkpointing: bool = False):
    """A small network after some steps, its optimizer and average, and what was clipped."""
    torch.manual_seed(0)
    how = "block" if checkpointing else "none"
    model = create_model("nfnet_pico", num_classes=3, activation_checkpointing=how).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("skip_gain"):
                parameter.fill_(0.5)
    optimizer = AGCSGD(param_groups(model, weight_decay=2e-5, clipping=0.01), lr=0.1)
    average = EMA(model, decay=0.9) if ema else None
    records = []
    for step in range(steps):
        x, keys = torch.randn(4, 3, 16, 16), torch.arange(4)
        target = torch.randint(3, (4,))
        if in_backward:
            with optimizer.step_in_backward(average, step):
                nn.functional.cross_entropy(model(x, keys), target).backward()
        else:
            nn.functional.cross_entropy(model(x, keys), target).backward()
            if average is None:
                optimizer.step()
            else:
                optimizer.step_and_average(average, step)
            optimizer.zero_grad()
        records.append(optimizer.clip_record.by_name())
    return model, optimizer, average, records


@pytest.mark.parametrize("pending", [0, 10_000, in_backward.PENDING_BYTES])
@pytest.mark.parametrize("ema", [True, False])
def test_the_same_bits(monkeypatch, pending, ema):
    some = partial(in_backward.updated_in_backward, pending_bytes=pending)
    monkeypatch.setattr(sgd, "updated_in_backward", some)
    after, early = trained(False, ema=ema), trained(True, ema=ema)
    for one, two in zip(after[0].parameters(), early[0].parameters(), strict=True):
        assert one.equal(two)
        assert two.grad is None
        velocity, other = (
            o.state[p]["momentum_buffer"] for (o, p) in ((after[1], one), (early[1], two))
        )
        assert velocity.equal(other)
    if ema:
        pairs = zip(after[2].model.parameters(), early[2].model.parameters(), strict=True)
        assert all(one.equal(two) for one, two in pairs)
    for one, two in zip(after[3], early[3], strict=True):
        assert one.keys() == two.keys()
        assert all(one[name].equal(two[name]) for name in one)
    assert any((scales < 1).any() for scales in early[3][0].values())


def test_recomputed_activations():
    """Blocks are computed again from weights that have not been updated yet."""
    after = trained(False, ema=False, checkpointing=True)[0]
    early = trained(True, ema=False, checkpointing=True)[0]
    for one, two in zip(after.parameters(), early.parameters(), strict=True):
        assert one.equal(two)


def test_gradients_are_dropped_on_the_way():
    layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))
    params, seen = list(layers.parameters()), []

    def update() -> None:
        seen.append([p for p in params if p.grad is not None])

    with in_backward.updated_in_backward(params, update, pending_bytes=280):
        layers(torch.ones(1, 8)).sum().backward()
    assert [len(present) for present in seen] == [2] * 6  # a weight and a bias: 288 bytes
    assert all(p.grad is None for p in params)


def test_an_error_before_the_backward_pass_changes_nothing():
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    optimizer, ema = AGCSGD(model.parameters()), EMA(model)
    with pytest.raises(ValueError, match="unreadable"), optimizer.step_in_backward(ema, 0):
        raise ValueError("unreadable")
    assert model.weight.detach().equal(before)
    assert not model.weight._post_accumulate_grad_hooks
    with optimizer.step_in_backward(ema, 0):  # and the next step is a whole one
        model(torch.ones(1, 4)).sum().backward()
    assert not ema.model.weight.equal(before)
    assert optimizer.total_units == 3


def test_hooks_and_schedulers_see_one_step():
    model, calls = nn.Linear(4, 2), []
    optimizer = AGCSGD(model.parameters(), lr=1.0)
    optimizer.register_step_post_hook(lambda o, *_: calls.append(o.total_units))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with optimizer.step_in_backward():
        model(torch.ones(1, 4)).sum().backward()
    scheduler.step()
    assert calls == [3]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
