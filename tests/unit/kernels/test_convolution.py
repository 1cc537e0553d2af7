"""The convolution kernels against the equation in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from normfree import kernels
from normfree.kernels import convolution, library
from normfree.kernels.convolution import Window
from normfree.nn import WSConv2d
from normfree.nn.convolve import convolve, equation
from normfree.nn.functional import same_window

pytestmark = pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))
EPS = 1e-4

#: n, channels in and out, height, width, filter size, stride, groups, dilation.
CASES = {
    "stem": (2, 3, 16, 9, 8, 3, 2, 1, 1),
    "few channels": (2, 16, 32, 7, 6, 3, 1, 1, 1),
    "pointwise": (3, 64, 48, 5, 5, 1, 1, 1, 1),
    "grouped": (2, 64, 128, 6, 6, 3, 1, 2, 1),
    "grouped, strided, odd height": (2, 64, 128, 7, 6, 3, 2, 2, 1),
    "strided": (2, 64, 64, 8, 8, 3, 2, 1, 1),
    "strided pointwise": (2, 32, 40, 7, 7, 1, 2, 1, 1),
    "dilated": (1, 96, 96, 5, 5, 3, 1, 3, 2),
    "deep": (4, 1536, 64, 3, 3, 1, 1, 1, 1),
    "odd channels": (2, 12, 20, 6, 6, 5, 1, 1, 1),
    "large filters": (2, 3, 64, 20, 20, 7, 2, 1, 1),
    "many images": (300, 32, 32, 3, 3, 3, 1, 1, 1),
    "one pixel": (5, 32, 33, 1, 1, 3, 1, 1, 1),
    "strides beyond the filters": (2, 32, 32, 9, 9, 1, 3, 1, 1),
}


def example(case: str, last: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Window]:
    n, channels, out, height, width, size, stride, groups, dilation = CASES[case]
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    window = same_window((height, width), (size,) * 2, (stride,) * 2, (dilation,) * 2, groups)
    weight = draw(out, channels // groups, size, size)
    if last:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return draw(n, channels, height, width), weight, draw(out), draw(out), window


def results(
    function, x: Tensor, weight: Tensor, gain: Tensor | None, bias: Tensor, window: Window
) -> list[Tensor]:
    """The output and the gradients of all inputs."""
    inputs = [t.detach().requires_grad_() for t in (x, weight, gain, bias) if t is not None]
    given = inputs if gain is not None else [*inputs[:2], None, inputs[2]]
    y = function(*given, EPS, window)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, inputs, grad)]


@pytest.fixture(params=["avx512", "avx2", "neon"])
def instruction_set(request):
    if library.use(request.param) != request.param:
        pytest.skip(f"no {request.param} here")
    yield request.param
    library.use()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("standardized", [False, True], ids=["plain", "standardized"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_equation(case, standardized, last, threads, instruction_set):
    x, weight, gain, bias, window = example(case, last)
    given = (x, weight, gain if standardized else None, bias)
    exact = results(equation, *(t if t is None else t.double() for t in given), window)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = results(convolve, *given, window)
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 2e-6 * theirs.norm()
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert found[2].stride() == weight.stride()


@pytest.mark.parametrize("case", ["grouped, strided, odd height", "deep", "many images", "stem"])
def test_results_do_not_depend_on_threads(case):
    x, weight, gain, bias, window = example(case, last=True)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(results(convolve, x, weight, gain, bias, window))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_constant_filters_give_zeros_and_finite_gradients():
    x, weight, gain, bias, window = example("pointwise", last=False)
    y, _, of_weight, _, _ = results(convolve, x, torch.ones_like(weight), gain, 0 * bias, window)
    assert y.abs().max() == 0
    assert of_weight.isfinite().all()


def test_gradients_of_gradients_are_those_of_the_equation():
    x, weight, gain, _, window = example("pointwise", last=False)
    norms = []
    for function in (convolve, equation):
        w = weight.detach().requires_grad_()
        y = function(x, w, gain, None, EPS, window)
        (grad,) = torch.autograd.grad(y.square().sum(), w, create_graph=True)
        norms.append(torch.autograd.grad(grad.square().sum(), w)[0])
    torch.testing.assert_close(*norms, rtol=1e-4, atol=1e-4)


def test_only_the_wanted_gradients_are_computed():
    x, weight, gain, bias, window = example("pointwise", last=False)
    x.requires_grad_()
    convolve(x, weight, gain, bias, EPS, window).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


def test_a_changed_weight_is_seen_and_refused_in_backward():
    conv = WSConv2d(32, 32, 3)
    x = torch.randn(1, 32, 4, 4)
    before = conv(x)
    conv.weight.data[0].neg_()  # the version counter does not show it
    assert not torch.equal(conv(x), before)
    y = conv(x)
    with torch.no_grad():
        conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_per_example_gradients_by_function_transforms():
    conv = WSConv2d(16, 16, 3)
    x = torch.randn(3, 16, 4, 4)

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        return torch.func.functional_call(conv, {"weight": weight}, image[None]).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(conv.weight.detach(), x)
    for image, grad in zip(x, found, strict=True):
        conv.zero_grad()
        conv(image[None]).square().sum().backward()
        torch.testing.assert_close(grad, conv.weight.grad, rtol=1e-4, atol=1e-5)


def test_autocast_and_float64_use_pytorch():
    conv = WSConv2d(16, 16, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.randn(1, 16, 4, 4)).dtype == torch.bfloat16
    assert conv.double()(torch.randn(1, 16, 4, 4).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "weight", "window"),
    [
        ((1, 32, 4, 4), (16, 16, 3, 3), Window()),
        ((1, 32, 4, 4), (15, 16, 3, 3), Window(groups=2)),
        ((1, 32, 2, 4), (16, 32, 3, 3), Window()),
    ],
    ids=["channels", "groups", "size"],
)
def test_shapes_that_do_not_fit_are_refused(x, weight, window):
    with pytest.raises(ValueError, match="filters"):
        convolution.convolve(torch.ones(x), torch.ones(weight), None, None, EPS, window)
