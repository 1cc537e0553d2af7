"""SAM against a small NumPy network with manual gradients, and its guarantees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import normfree
from normfree import UserError
from normfree.optim import AGCSGD, EMA, SAM, clip_grad_agc_
from normfree.optim.functional import sam_perturbation
from tests.unit.optim.sam_oracle import (
    MOMENTUM,
    RATE,
    RHO,
    STEPS,
    assert_weights,
    examples,
    gradient,
    loss_of,
    network,
    sam_gradient,
    start,
)
from tests.unit.optim.test_functional import clipped


@pytest.mark.parametrize("first", [10, 2], ids=["whole batch", "a fifth of it"])
def test_steps_of_momentum_in_numpy(first):
    net = network()
    sam = SAM(net.parameters(), rho=RHO)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    w, v = start(), [0.0] * 4
    for step in range(STEPS):
        x, y = examples(step)
        optimizer.zero_grad()
        loss_of(net, x[:first], y[:first]).backward()
        with sam.ascended():
            loss_of(net, x, y).backward()
        optimizer.step()
        v = [MOMENTUM * a + g for a, g in zip(v, sam_gradient(w, x, y, first), strict=True)]
        w = [a - RATE * b for a, b in zip(w, v, strict=True)]
        assert_weights(net, w)
    plain, v = start(), [0.0] * 4  # without the ascent, the weights differ
    for step in range(STEPS):
        v = [MOMENTUM * a + g for a, g in zip(v, gradient(plain, *examples(step)), strict=True)]
        plain = [a - RATE * b for a, b in zip(plain, v, strict=True)]
    assert max(np.abs(a - b).max() for a, b in zip(plain, w, strict=True)) > 1e-2


def test_each_micro_batch_ascends_along_its_own_gradient():
    """Same as replicas that do not average their first gradients."""
    net = network()
    sam = SAM(net.parameters(), rho=RHO)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    w = start()
    for step in range(STEPS):
        x, y = examples(step)
        optimizer.zero_grad()
        total = [0.0] * 4
        for part in (slice(0, 4), slice(4, 10)):
            share = len(y[part]) / len(y)
            grads = torch.autograd.grad(loss_of(net, x[part], y[part]), sam.params)
            with sam.ascended(grads):
                (loss_of(net, x[part], y[part]) * share).backward()
            own = sam_gradient(w, x[part], y[part], first=10)
            total = [a + share * b for a, b in zip(total, own, strict=True)]
        optimizer.step()
        w = [a - RATE * b for a, b in zip(w, total, strict=True)]
        assert_weights(net, w)


def test_clipping_decay_and_the_average_act_at_the_weights():
    net = network()
    sam = SAM(net.parameters(), rho=RHO)
    optimizer = AGCSGD(net.parameters(), lr=RATE, weight_decay=0.05, clipping=0.02)
    ema = EMA(net, decay=0.9)
    w, v, average = start(), [0.0] * 4, start()
    for step in range(STEPS):
        x, y = examples(step)
        optimizer.zero_grad()
        loss_of(net, x, y).backward()
        with sam.ascended():
            loss_of(net, x, y).backward()
        optimizer.step()
        ema.update(step)
        assert optimizer.clipped_units > 0
        g = sam_gradient(w, x, y, first=10)
        g = [clipped(a, b, 0.02, 1e-3) + 0.05 * b for a, b in zip(g, w, strict=True)]
        v = [0.9 * a + b for a, b in zip(v, g, strict=True)]
        w = [a - RATE * (b + 0.9 * c) for a, b, c in zip(w, g, v, strict=True)]
        d = min(0.9, (1 + step) / (10 + step))
        average = [d * a + (1 - d) * b for a, b in zip(average, w, strict=True)]
        assert_weights(net, w)
        assert_weights(ema.model, average)


class InterruptionError(Exception):
    pass


def test_the_weights_are_restored_exactly_even_after_an_error():
    net = network(double=False)
    with torch.no_grad():
        net[0].weight[0, 0] = -0.0
        net[2].weight *= 1e-30  # lost in w + ε; subtracting ε would not restore it
    before = [p.detach().clone() for p in net.parameters()]
    places = [p.data_ptr() for p in net.parameters()]
    sam = SAM(net.parameters(), rho=RHO)

    def back():
        now = [p.data_ptr() for p in net.parameters()] == places
        for p, kept in zip(net.parameters(), before, strict=True):
            now &= torch.equal(p.view(torch.int32), kept.view(torch.int32))
        return now

    loss_of(net, *examples(0)).backward()
    with sam.ascended():
        assert not back()
    assert back()

    def interrupted():
        with sam.ascended():
            assert not back()
            raise InterruptionError

    loss_of(net, *examples(0)).backward()
    with pytest.raises(InterruptionError):
        interrupted()
    assert back()


def test_gradients_are_cleared_or_kept():
    net = network()
    sam = SAM(net.parameters(), rho=RHO)
    loss_of(net, *examples(0)).backward()
    before = [p.grad.clone() for p in net.parameters()]
    with sam.ascended([p.grad for p in net.parameters()]):
        assert [torch.equal(p.grad, g) for p, g in zip(sam.params, before, strict=True)] == [
            True
        ] * 4
    with sam.ascended():
        assert [p.grad for p in net.parameters()] == [None] * 4
    assert [p.grad for p in net.parameters()] == [
        None
    ] * 4  # no backward pass ran inside the context


def test_the_scale_of_a_grad_scaler_does_not_matter():
    plain, scaled = network(double=False), network(double=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    optimizers = [AGCSGD(net.parameters(), lr=RATE) for net in (plain, scaled)]
    sams = [SAM(net.parameters(), rho=RHO) for net in (plain, scaled)]
    for step in range(3):
        loss_of(plain, *examples(step)).backward()
        with sams[0].ascended():
            loss_of(plain, *examples(step)).backward()
        optimizers[0].step()
        scaler.scale(loss_of(scaled, *examples(step))).backward()
        with sams[1].ascended():
            scaler.scale(loss_of(scaled, *examples(step))).backward()
        scaler.step(optimizers[1])
        scaler.update()
        for optimizer in optimizers:
            optimizer.zero_grad()
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bad", [0.0, torch.inf, -torch.inf, torch.nan])
def test_weights_do_not_move_without_a_direction(bad):
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    net[0].weight.grad[1, 2] = bad
    with SAM(net.parameters()).ascended():
        for p, kept in zip(net.parameters(), before, strict=True):
            assert torch.equal(p, kept)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_is_as_long_as_rho_and_as_steep_as_the_gradient(scale, dtype):
    g = torch.Generator().manual_seed(0)
    grads = [scale * torch.randn(shape, generator=g, dtype=dtype) for shape in [(), (7,), (3, 4)]]
    before = [grad.clone() for grad in grads]
    steps = sam_perturbation(grads, rho=0.05)
    flat, slope = (torch.cat([x.flatten().double() for x in xs]) for xs in (steps, grads))
    assert {step.dtype for step in steps} == {dtype}
    assert flat.norm().item() == pytest.approx(0.05, rel=1e-6)
    assert (flat @ slope / slope.norm()).item() == pytest.approx(0.05, rel=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(grads, before, strict=True))
    assert sam_perturbation([], rho=0.05) == []


def test_frozen_and_unused_parameters_stay():
    net = network()
    net[0].bias.requires_grad_(False)
    sam = SAM(net.parameters(), rho=RHO)
    assert [p.shape for p in sam.params] == [(5, 4), (3, 5), (3,)]
    x = torch.from_numpy(examples(0)[0])
    grads = torch.autograd.grad(net[0](x).square().sum(), sam.params, allow_unused=True)
    before = [p.detach().clone() for p in net.parameters()]
    with sam.ascended(grads):
        stayed = [torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True)]
        assert stayed == [False, True, True, True]
        assert (net[0].weight - before[0]).norm().item() == pytest.approx(RHO, rel=1e-12)


def test_with_another_optimizer_and_clipping_by_hand():
    net = network()
    sam, optimizer = SAM(net.parameters(), rho=RHO), torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of(net, *examples(0))
        loss.backward()
        with sam.ascended():
            loss_of(net, *examples(0)).backward()
        clip_grad_agc_(net.parameters(), clipping=0.16)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_with_rho_zero_it_is_the_plain_gradient():
    net = network()
    loss_of(net, *examples(0)).backward()
    before = [p.grad.clone() for p in net.parameters()]
    with SAM(net.parameters(), rho=0.0).ascended():
        loss_of(net, *examples(0)).backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), before, strict=True))


def test_one_autocast_around_both_passes_sees_the_ascent():
    """Autocast caches casts of the weights until it exits."""
    net = network(double=False)
    with torch.autocast("cpu", torch.bfloat16):
        first = loss_of(net, *examples(0))
        first.backward()
        with SAM(net.parameters(), rho=RHO).ascended():
            above = loss_of(net, *examples(0))
        back = loss_of(net, *examples(0))
    assert above > first + 0.01
    assert back == first


def test_with_the_same_masks_the_loss_rises_by_rho_times_the_slope():
    """Our networks derive their masks from keys, so both passes see the same function."""
    model = normfree.create_model(
        "nfnet_pico", num_classes=4, drop_rate=0.5, stochastic_depth_rate=0.5
    ).double()
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    sam, losses = SAM(model.parameters(), rho=1e-5), []
    for keys in (torch.arange(4), torch.arange(4, 8)):
        first = model.train()(x, torch.arange(4)).square().mean()
        first.backward()
        slope = torch.nn.utils.get_total_norm([p.grad for p in sam.params if p.grad is not None])
        with sam.ascended(), torch.no_grad():
            losses.append((model(x, keys).square().mean() - first) / (sam.rho * slope))
    assert losses[0].item() == pytest.approx(1, rel=1e-2)
    assert abs(losses[1].item() - 1) > 1


def test_invalid_settings_and_gradients():
    net = network()
    for rho in (-0.1, float("inf"), float("nan")):
        with pytest.raises(UserError, match="rho must be"):
            SAM(net.parameters(), rho=rho)
    with pytest.raises(UserError, match="no parameter to perturb"):
        SAM(p.requires_grad_(False) for p in network().parameters())
    sam = SAM(net.parameters())
    with pytest.raises(UserError, match=r"call loss.backward\(\) before"), sam.ascended():
        pass
    loss_of(net, *examples(0)).backward()
    with pytest.raises(UserError, match="4 parameters but got 1"), sam.ascended([None]):
        pass
