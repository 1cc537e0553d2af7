"""Linear layers of few rows: the choice between kernels and PyTorch, and all derivatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import gradcheck

from normfree.kernels import linear as kernels
from normfree.nn import linear as module
from normfree.nn.linear import linear


def drawn(n=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    shapes = (n, 20), (7, 20), (7,)
    return [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the inputs that the kernels were given."""
    given = []

    def spy(x, weight, bias=None):
        given.append(tuple(x.shape))
        return found(x, weight, bias)

    found = kernels.linear
    monkeypatch.setattr(module.kernels, "linear", spy)
    return given


def test_gradients_are_those_of_pytorch(calls):
    ours, theirs = (
        torch.autograd.grad(f(*inputs).square().sum(), inputs)
        for f, inputs in ((linear, drawn()), (F.linear, drawn()))
    )
    assert calls == [(3, 20)]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_only_needed_gradients_are_returned():
    x, weight, bias = drawn()
    linear(x.detach(), weight.detach(), bias).sum().backward()
    assert bias.grad.equal(torch.full((7,), 3.0))


def test_second_derivatives():
    inputs = drawn()
    (first,) = torch.autograd.grad(linear(*inputs).square().sum(), inputs[0], create_graph=True)
    second = torch.autograd.grad(first.square().sum(), inputs[:2])
    inputs64 = [t.detach().double().requires_grad_() for t in inputs]
    (want,) = torch.autograd.grad(
        F.linear(*inputs64).square().sum(), inputs64[0], create_graph=True
    )
    for a, b in zip(second, torch.autograd.grad(want.square().sum(), inputs64[:2]), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("case", ["many rows", "float64", "transposed", "autocast", "func"])
def test_pytorch_computes_the_rest(calls, case):
    x, weight, bias = (t.detach() for t in drawn(40 if case == "many rows" else 3))
    if case == "float64":
        x, weight, bias = x.double(), weight.double(), bias.double()
    if case == "transposed":
        weight = weight.T.contiguous().T
    with torch.autocast("cpu", enabled=case == "autocast"):
        if case == "func":
            found = torch.func.vmap(lambda row: linear(row[None], weight, bias)[0])(x)
        else:
            found = linear(x, weight, bias)
    assert not calls
    torch.testing.assert_close(
        found, F.linear(x, weight, bias), check_dtype=False, rtol=0.02, atol=0.05
    )


def test_an_expanded_gradient():
    inputs = drawn()
    linear(*inputs).sum().backward()  # the gradient of a sum has strides of zero
    torch.testing.assert_close(inputs[0].grad[0], inputs[1].detach().sum(0))


def test_double_precision_is_differentiable():
    assert gradcheck(linear, drawn(dtype=torch.float64))


def test_inference_mode_within_a_function_that_enables_gradients():
    x, weight, bias = drawn()
    with torch.inference_mode(), torch.enable_grad():
        found = linear(x * 1, weight, bias)
    torch.testing.assert_close(found.clone(), F.linear(x, weight, bias).detach())
