"""Fused activations and residual sums: the kernels, their gradients and what uses the equation."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from normfree import kernels
from normfree.nn import (
    ACTIVATIONS,
    BottleneckSpec,
    NFBlock,
    Residual,
    ScaledActivation,
    SqueezeExcite,
    functional,
    fused,
)
from normfree.nn.squeeze_excite import SESpec

FORMATS = [torch.contiguous_format, torch.channels_last]


def drawn(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_()


def gate(pooled, weight, bias):
    return torch.sigmoid(F.linear(pooled, weight, bias))


def arguments(dtype, memory_format=torch.contiguous_format):
    """A skip path, a branch, and the parameters of its gate."""
    skip, x = (drawn(2, 3, 5, 4, dtype=dtype, seed=seed) for seed in (1, 2))
    skip, x = (t.detach().contiguous(memory_format=memory_format) for t in (skip, x))
    weights = drawn(3, 3, dtype=dtype, seed=3), drawn(3, dtype=dtype, seed=4)
    return [skip.requires_grad_(), x.requires_grad_(), *weights]


def ends(skip, x, *weights):
    """Every form of a block's end, as functions of the same arguments."""
    one, images = weights[1].sum(), weights[0].sum(1)[:2, None, None, None]
    return [
        fused.squeeze_excite_add(skip, x, gate, weights),
        fused.squeeze_excite_add(None, x, gate, weights) + skip,
        fused.gated_add(skip, x, one),
        fused.gated_add(skip, x, images),
        fused.gated_add(skip, x, gate(fused.spatial_mean(x), *weights)[:, :, None, None]),
    ]


def gradients(function, inputs):
    y = function(*inputs)
    generator = torch.Generator().manual_seed(9)
    grad = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
    return [y, *torch.autograd.grad(y, inputs, grad, materialize_grads=True)]


@pytest.mark.parametrize("form", range(5))
def test_gradients_of_the_equations(form):
    inputs = arguments(torch.float64)
    assert gradcheck(lambda *x: ends(*x)[form], inputs)
    assert gradgradcheck(lambda *x: ends(*x)[form], inputs)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("form", range(5))
def test_kernels_equal_the_equations(form, memory_format):
    want = gradients(lambda *x: ends(*x)[form], arguments(torch.float64))
    ours = gradients(lambda *x: ends(*x)[form], arguments(torch.float32, memory_format))
    for one, other in zip(ours, want, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-6)


@pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))
def test_kernels_are_used_on_the_cpu():
    y = [*ends(*arguments(torch.float32)), ScaledActivation("gelu")(drawn(3))]
    names = [type(t.grad_fn).__name__ for t in y]
    assert names[0] == "_SqueezeExciteAddBackward"
    assert names[2:4] == ["_GatedAddBackward"] * 2
    assert names[5] == "_ScaledActivationBackward"
    wide = ScaledActivation("gelu")(drawn(3, dtype=torch.float64))
    assert type(wide.grad_fn).__name__ == "MulBackward0"


@pytest.mark.parametrize("form", range(5))
def test_second_derivatives(form):
    def penalty(*inputs):
        y = ends(*inputs)[form]
        found = torch.autograd.grad(y.square().sum(), inputs[1], create_graph=True)[0]
        return found.square().sum()

    found = []
    for dtype in (torch.float32, torch.float64):
        inputs = arguments(dtype)
        found.append(torch.autograd.grad(penalty(*inputs), inputs, materialize_grads=True))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gelu", "relu", "silu"])
def test_scaled_activations(name):
    function = ACTIVATIONS[name].function
    layer, x = ScaledActivation(name), drawn(4, 3, 5, 7)
    x64 = x.detach().double().requires_grad_()
    want = gradients(lambda x: function(x) * layer.gain * 0.3, [x64])
    ours = gradients(lambda x: layer(x, 0.3), [x])
    for one, other in zip(ours, want, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-6)
    assert gradcheck(lambda x: layer(x, 0.3), [x64])
    first = torch.autograd.grad(layer(x).sum(), x, create_graph=True)[0]
    again = torch.autograd.grad(first.sum(), x)[0]
    wide = torch.autograd.grad(layer(x64).sum(), x64, create_graph=True)[0]
    want64 = torch.autograd.grad(wide.sum(), x64)[0] if name != "relu" else torch.zeros_like(x64)
    torch.testing.assert_close(again.double(), want64, rtol=1e-4, atol=1e-5)


def test_a_function_of_the_user_with_a_known_name_is_not_replaced():
    """``F.gelu`` uses the error function; the kernel of the same name, tanh."""
    x = drawn(1000)
    assert torch.equal(ScaledActivation(F.gelu, gain=2.0)(x), F.gelu(x) * 2)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch.func itself
def test_func_transforms_and_forward_derivatives_use_the_equation():
    layer, x = ScaledActivation("relu"), drawn(3, 4).detach()
    slopes = torch.func.vmap(torch.func.grad(lambda x: layer(x).sum()))(x)
    _, tangent = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(slopes, tangent)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        found = torch.autograd.forward_ad.unpack_dual(layer(dual)).tangent
    torch.testing.assert_close(found, tangent)


def test_a_traced_activation_is_not_a_constant():
    layer, x = ScaledActivation("gelu"), drawn(3, 4).detach()
    traced = make_fx(layer)(x)
    torch.testing.assert_close(traced(-x), layer(-x))


def test_backward_twice_and_partly_frozen():
    skip, x, weight, bias = arguments(torch.float32)
    weight.requires_grad_(False)
    y = fused.squeeze_excite_add(skip, x, gate, (weight, bias))
    first = torch.autograd.grad(y.sum(), (x, bias), retain_graph=True)
    again = torch.autograd.grad(y.sum(), (x, bias))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    frozen = x.detach()
    y = fused.squeeze_excite_add(skip, frozen, gate, (weight, bias))
    want = functional.squeeze_excite_add(skip, frozen, gate, (weight, bias))
    ours, expected = (torch.autograd.grad(t.square().sum(), (skip, bias)) for t in (y, want))
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_checkpointing_recomputes_a_gated_sum_once():
    calls = []

    def recomputed(*inputs):
        calls.append(1)
        return ends(*inputs)[0]

    inputs = arguments(torch.float32)
    want = gradients(lambda *x: ends(*x)[0], inputs)
    ours = gradients(lambda *x: checkpoint(recomputed, *x, use_reentrant=False), inputs)
    assert len(calls) == 2
    assert all(torch.equal(one, other) for one, other in zip(ours, want, strict=True))


def test_empty_maps_and_one_pixel():
    layer = SqueezeExcite(3)
    for shape in ((0, 3, 4, 4), (2, 3, 1, 1)):
        x = drawn(*shape)
        layer(x, skip=x).sum().backward()
        assert x.grad.shape == shape


@pytest.mark.parametrize("place", ["output", "bottleneck", "straddled", "none"])
def test_a_block_equals_itself_in_float64(place):
    """With stochastic depth, at every place of squeeze-and-excite."""
    spec = BottleneckSpec(in_channels=8, out_channels=8, width=8, groups=2, se=SESpec(place=place))
    torch.manual_seed(0)
    block = NFBlock(spec, Residual(beta=0.8, stochastic_depth_rate=0.4))
    torch.nn.init.constant_(block.skip_gain, 0.7)
    x, keys = drawn(6, 8, 5, 5), torch.arange(6)
    found = []
    for dtype in (torch.float32, torch.float64):
        block.to(dtype).zero_grad()
        y = block(x.to(dtype), keys)
        x.grad = None
        y.square().sum().backward()
        found.append([y, x.grad, *(p.grad.clone() for p in block.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-4)


def test_under_bfloat16_autocast_maps_stay_bfloat16():
    spec = BottleneckSpec(in_channels=8, out_channels=16, width=8, groups=2)
    block = NFBlock(spec, Residual(stochastic_depth_rate=0.5))
    x, keys = drawn(4, 8, 5, 5), torch.arange(4)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x, keys)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert block.skip_gain.grad.dtype == torch.float32


def test_nothing_of_a_step_outlives_it():
    """The gate's graph once kept its own outputs, 10 MB a step."""
    block = NFBlock(BottleneckSpec(in_channels=8, out_channels=8, width=8))
    x = torch.randn(2, 8, 4, 4)

    def alive() -> int:
        block(x).sum().backward()
        gc.collect()
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    alive()
    assert alive() == alive() == alive()
