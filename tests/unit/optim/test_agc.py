"""clip_grad_agc_ with all forms of arguments, and in settings where clipping often goes wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normfree.models import build_model
from normfree.optim import AGCSGD, clip_grad_agc_, param_groups
from normfree.optim.functional import adaptive_clip


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(3, 8, 3))
    net.add_module("act", nn.ReLU())
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(8, 4))
    return net


def loss_of(net, x, scale=100.0):
    return scale * net(x).square().mean()  # large enough that units are clipped


def images(n=8):
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def gradients(net):
    return {name: p.grad.clone() for name, p in net.named_parameters()}


@pytest.mark.parametrize("form", ["tensor", "list", "generator", "groups"])
def test_forms_of_the_argument(form):
    net = small_net()
    loss_of(net, images()).backward()
    before = gradients(net)
    parameters = {
        "tensor": net.conv.weight,
        "list": list(net.parameters()),
        "generator": net.parameters(),
        "groups": param_groups(net, clipping=0.02),
    }[form]
    count = clip_grad_agc_(parameters, clipping=0.01)
    clipping = 0.02 if form == "groups" else 0.01
    untouched = {
        "tensor": {"conv.bias", "fc.weight", "fc.bias"},
        "groups": {"fc.weight"},
    }.get(form, set())
    units = 0
    for name, p in net.named_parameters():
        want = before[name] if name in untouched else adaptive_clip(before[name], p, clipping)
        assert torch.equal(p.grad, want), name
        if name not in untouched:
            changed = (p.grad != before[name]).flatten(1 if p.ndim > 1 else 0)
            units += changed.any(dim=-1).sum()
    assert count.ndim == 0
    assert count == units > 0


def test_layer_by_layer_every_parameter_is_one_unit():
    net = small_net()
    loss_of(net, images()).backward()
    before = gradients(net)
    count = clip_grad_agc_(net.parameters(), clipping=0.01, unitwise=False)
    assert count == 4
    for name, p in net.named_parameters():
        limit = 0.01 * p.norm().clamp(min=1e-3)
        torch.testing.assert_close(p.grad, before[name] * (limit / before[name].norm()))


def test_group_clipping_overrides_the_argument():
    w = [nn.Parameter(torch.ones(3)) for _ in range(3)]
    for p in w:
        p.grad = torch.ones(3)
    groups = [
        {"params": [w[0]], "clipping": None},
        {"params": [w[1]], "clipping": 0.5},
        {"params": [w[2]]},
    ]
    assert clip_grad_agc_(groups, clipping=0.01) == 2
    norms = [p.grad.norm().item() for p in w]
    assert norms == pytest.approx([3**0.5, 0.5 * 3**0.5, 0.01 * 3**0.5], rel=1e-6)


def test_parameters_without_gradient_and_nothing_at_all():
    frozen, free = nn.Parameter(torch.ones(3), requires_grad=False), nn.Parameter(torch.ones(3))
    assert clip_grad_agc_([frozen, free]) == 0
    assert clip_grad_agc_([]) == 0
    assert free.grad is None


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD])
def test_the_eps_of_another_optimizer_is_ignored(kind):
    model = build_model("nfnet_pico", num_classes=10)
    groups = param_groups(model, clipping=0.01)
    optimizer = kind(groups, lr=1e-3)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    clip_grad_agc_(optimizer.param_groups)
    assert model.stages[0][0].skip_gain.grad.item() == pytest.approx(1e-5)


def test_a_zero_skip_gain_moves():
    gain = nn.Parameter(torch.zeros(()))
    gain.grad = torch.tensor(-3.0)
    clip_grad_agc_(gain, clipping=0.01, eps=1e-3)
    assert gain.grad.item() == pytest.approx(-1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 0.1)])
def test_half_precision_with_a_scaler_matches_the_float32_step(dtype, tolerance):
    """Unscale, clip, step. Clipping before unscaling would make the step 16 times smaller."""
    start, plain, scaled = small_net(), small_net(), small_net()
    optimizers = [torch.optim.SGD(net.parameters(), lr=1.0) for net in (plain, scaled)]
    loss_of(plain, images()).backward()
    assert clip_grad_agc_(plain.parameters()) > 0
    optimizers[0].step()

    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    with torch.autocast("cpu", dtype):
        loss = loss_of(scaled, images())
    scaler.scale(loss).backward()
    scaler.unscale_(optimizers[1])
    clip_grad_agc_(scaled.parameters())
    scaler.step(optimizers[1])
    scaler.update()
    assert scaler.get_scale() == 16  # nothing overflowed
    for w, a, b in zip(start.parameters(), plain.parameters(), scaled.parameters(), strict=True):
        assert (b - a).norm() <= tolerance * (a - w).norm()


def test_agcsgd_in_a_scaler_clips_after_unscaling():
    plain, scaled = small_net(), small_net()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    optimizers = [AGCSGD(param_groups(net), lr=0.1) for net in (plain, scaled)]
    for _ in range(3):
        loss_of(plain, images()).backward()
        optimizers[0].step()
        scaler.scale(loss_of(scaled, images())).backward()
        scaler.step(optimizers[1])
        scaler.update()
        assert torch.equal(optimizers[0].clipped_units, optimizers[1].clipped_units)
        assert optimizers[0].clipped_units > 0
        for optimizer in optimizers:
            optimizer.zero_grad()
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_infinite_gradients_skip_the_step():
    net = small_net()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = AGCSGD(param_groups(net), lr=0.1)
    before = [p.detach().clone() for p in net.parameters()]
    scaler.scale(loss_of(net, images())).backward()
    net.conv.weight.grad[0, 0, 0, 0] = torch.inf
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0
    for p, kept in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, kept)


def test_accumulated_gradients_are_clipped_once():
    whole, parts = small_net(), small_net()
    loss_of(whole, images(8)).backward()
    for part in images(8).split(2):
        (loss_of(parts, part) / 4).backward()
    assert clip_grad_agc_(param_groups(whole)) == clip_grad_agc_(param_groups(parts)) > 0
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-8)

    each = small_net()  # clipping every micro-batch gives a different result
    for part in images(8).split(2):
        (loss_of(each, part) / 4).backward()
        clip_grad_agc_(param_groups(each))
    difference = (each.conv.weight.grad - whole.conv.weight.grad).norm()
    assert difference > 1e-2 * whole.conv.weight.grad.norm()


def test_gradients_of_a_compiled_model():
    net, twin = small_net(), small_net()
    compiled = torch.compile(twin, backend="aot_eager")
    loss_of(net, images()).backward()
    loss_of(compiled, images()).backward()
    assert clip_grad_agc_(net.parameters()) == clip_grad_agc_(compiled.parameters()) > 0
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-8)
