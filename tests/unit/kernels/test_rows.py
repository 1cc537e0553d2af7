"""Standardization by rows: the kernel against the equation in float64."""

from __future__ import annotations

import platform

import pytest
import torch
from torch.func import grad as gradient
from torch.func import vmap

from normfree import UserError, kernels
from normfree.kernels import library
from normfree.nn.functional import standardize_weight, standardize_weight_backward
from normfree.nn.standardize import standardize

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
#: Fan-ins of one, below, at and above the vectors of the kernel, and rows for several threads.
SHAPES = [
    *[(3, 1), (5, 15), (5, 16), (5, 17), (4, 63), (4, 64), (4, 65), (7, 131), (300, 129)],
    *[(6, 1, 1, 1), (8, 3, 3, 3), (5, 70, 1, 1), (64, 32, 3, 3), (2, 3, 2, 2, 2)],
]


@pytest.fixture(params=[*COMPILED, "equation"], autouse=True)
def instruction_set(request, monkeypatch):
    """Run each test with every compiled instruction set of this machine, and without kernels."""
    if request.param == "equation":
        monkeypatch.setenv("NORMFREE_KERNELS", "0")
    elif not kernels.available() or not library.use(request.param):
        pytest.skip(f"no kernels for {request.param} here")
    yield request.param
    library.use()


def drawn(shape, seed=0, last=False):
    """Weights with a mean, gains of both signs, and the gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    weight, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    gain = torch.randn(shape[0], generator=generator)
    if last:
        weight = weight.to(memory_format=torch.channels_last)
    return weight + 0.3, gain, grad


def outcome(function, weight, gain, grad, eps=1e-4):
    """The result and both gradients."""
    weight, gain = (x.clone().requires_grad_() for x in (weight, gain))
    result = function(weight, gain, eps)
    return (result.detach(), *torch.autograd.grad(result, (weight, gain), grad))


def expected(weight, gain, grad, eps=1e-4):
    return outcome(standardize_weight, weight.double(), gain.double(), grad.double(), eps)


def close(found, wanted, relative=1e-6):
    for a, b in zip(found, wanted, strict=True):
        assert (a.double() - b).norm() <= relative * b.norm()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_results_and_gradients_match_float64(shape, threads):
    before, given = torch.get_num_threads(), drawn(shape)
    try:
        torch.set_num_threads(threads)
        found = outcome(standardize, *given)
    finally:
        torch.set_num_threads(before)
    wanted = expected(*given)
    if given[0][0].numel() == 1:  # a row of one number is its mean
        assert all((x == 0).all() for x in found)
        return
    close(found, wanted)
    for row in range(shape[0]):
        close([x[row] for x in found[:2]], [x[row] for x in wanted[:2]], 2e-6)


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (64, 32, 3, 3), (5, 70, 1, 1)], ids=str)
@pytest.mark.parametrize("other", [False, True])
def test_the_memory_format_is_kept(shape, other):
    weight, gain, grad = drawn(shape, last=True)
    if not other:
        grad = grad.to(memory_format=torch.channels_last)
    found = outcome(standardize, weight, gain, grad)
    close(found, expected(weight, gain, grad))
    assert [x.stride() for x in found[:2]] == [weight.stride()] * 2


def test_weights_with_gaps_use_the_equation():
    weight, gain, grad = drawn((4, 6, 3, 3))
    for some in (weight[:, ::2], weight.permute(0, 3, 2, 1)):
        close(
            outcome(standardize, some, gain, grad.new_ones(some.shape).cumsum(1)),
            expected(some, gain, grad.new_ones(some.shape).cumsum(1)),
        )


def test_the_equations_gradient_is_derived_correctly():
    weight, gain, grad = (x.double() for x in drawn((5, 2, 3, 1)))
    weight[1] = 0.5  # constant
    weight[2] *= 1e-4  # below the bound
    for wanted, found in zip(
        outcome(standardize_weight, weight, gain, grad)[1:],
        standardize_weight_backward(grad, weight, gain),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    inputs = [x.clone().requires_grad_() for x in (weight[3:], gain[3:])]
    assert torch.autograd.gradcheck(standardize, inputs)
    assert torch.autograd.gradgradcheck(standardize, inputs)


def test_rows_below_the_bound_have_a_linear_gradient():
    weight, gain, grad = drawn((4, 40))
    weight = (weight - 0.3) * torch.tensor([1.0, 1e-3, 1e-5, 0.0])[:, None]
    close(outcome(standardize, weight, gain, grad), expected(weight, gain, grad))
    close(outcome(standardize, weight, gain, grad, 1e-9), expected(weight, gain, grad, 1e-9))


def test_a_zero_gain_gives_zeros_and_its_own_gradient():
    weight, gain, grad = drawn((3, 20))
    result, weight_grad, gain_grad = outcome(standardize, weight, torch.zeros(3), grad)
    assert (result == 0).all()
    assert (weight_grad == 0).all()
    close([gain_grad], [expected(weight, gain, grad)[2]])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_numbers_that_are_not_finite_stay_in_their_row(value):
    weight, gain, grad = drawn((4, 33))
    weight[1, 20] = value
    found = outcome(standardize, weight, gain, grad)
    wanted = outcome(standardize_weight, weight, gain, grad)
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
    weight, gain, grad = drawn((4, 33))
    grad[2, 32] = value
    found, wanted = outcome(standardize, weight, gain, grad), expected(weight, gain, grad)
    for a, b in zip(found, wanted, strict=True):
        others = [0, 1, 3]
        close([a[others]], [b[others]])
    assert value == 1e30 or not found[1][2].isfinite().any()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 2, 3, 3), (2, 0, 3, 3)])
def test_empty_filters(shape, instruction_set):
    if instruction_set == "equation":
        pytest.skip("PyTorch warns about the variance of nothing")
    weight, gain, grad = drawn(shape)
    found = outcome(standardize, weight, gain, grad)
    assert [x.shape for x in found] == [weight.shape, weight.shape, gain.shape]
    assert found[2].numel() == 0 or (found[2] == 0).all()


def test_results_depend_on_neither_threads_nor_instruction_set(instruction_set):
    if instruction_set == "equation":
        pytest.skip("only for kernels")
    given, results = drawn((300, 131)), []
    before = torch.get_num_threads()
    try:
        for name in COMPILED:
            for threads in (1, 2, 7):
                if library.use(name):
                    torch.set_num_threads(threads)
                    results.append(outcome(standardize, *given))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_second_derivatives_and_functional_transforms_use_the_equation():
    weight, gain, grad = drawn((4, 3, 2, 2))

    def second(function):
        inputs = [x.clone().requires_grad_() for x in (weight, gain)]
        first = torch.autograd.grad((function(*inputs) ** 3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), inputs)

    for a, b in zip(second(standardize), second(standardize_weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)

    def single(function):
        loss = lambda w, x: (function(w, gain).flatten(1) @ x).sin().sum()  # noqa: E731
        return vmap(gradient(loss), in_dims=(None, 0))(weight, grad.view(4, 12))

    torch.testing.assert_close(single(standardize), single(standardize_weight))


def test_the_operator_is_registered_as_pytorch_expects():
    weight, gain, grad = drawn((4, 3, 2, 2))
    inputs = (weight.requires_grad_(), gain.requires_grad_())
    torch.library.opcheck(torch.ops.normfree.standardize.default, (*inputs, 1e-4))
    operator = torch.ops.normfree.standardize.default
    compiled = torch.compile(operator, backend="aot_eager", fullgraph=True)
    for a, b in zip(
        torch.autograd.grad(compiled(*inputs, 1e-4), inputs, grad),
        torch.autograd.grad(standardize(*inputs), inputs, grad),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_the_compiler_sees_the_equation():
    weight, gain, _ = drawn((4, 3, 2, 2))
    seen = []

    def backend(module, inputs):
        seen.extend(str(node.target) for node in module.graph.nodes)
        return module

    torch.compile(standardize, backend=backend, fullgraph=True)(weight, gain)
    assert any("var_mean" in target for target in seen)
    assert not any("normfree" in target for target in seen)


def test_a_weight_changed_before_the_backward_pass_is_noticed():
    weight, gain, grad = drawn((4, 12))
    weight.requires_grad_()
    result = standardize(weight, gain)
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward(grad)


def test_mismatched_arguments_are_refused():
    weight, gain, grad = drawn((4, 12))
    for call in (
        lambda: torch.ops.normfree.standardize(weight, gain[:3], 1e-4),
        lambda: torch.ops.normfree.standardize(weight[0], gain, 1e-4),
    ):
        with pytest.raises(UserError, match="standardization takes filters"):
            call()
    with pytest.raises(UserError, match=r"shape \(4, 12\); got \(4, 11\)"):
        torch.ops.normfree.standardize_backward(grad[:, :11], weight, gain, 1e-4)
