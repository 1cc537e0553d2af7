"""Kernels of linear layers against float64, with every instruction set."""

from __future__ import annotations

import platform

import pytest
import torch

from normfree import kernels
from normfree.kernels import library
from normfree.kernels.linear import MOST_ROWS, linear, linear_gradients

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
SIZES = [
    (1, 1, 1),
    (2, 16, 4),
    (3, 37, 5),
    (4, 64, 9),
    (5, 1100, 3),
    (16, 96, 30),
    (MOST_ROWS, 131, 8),
]


@pytest.fixture(params=COMPILED, autouse=True)
def instruction_set(request):
    """Run each test with every compiled instruction set that this machine supports."""
    if not kernels.available() or not library.use(request.param):
        pytest.skip(f"no kernels for {request.param} here")
    yield
    library.use()


def drawn(n, fan_in, out):
    generator = torch.Generator().manual_seed(n + fan_in + out)
    shapes = (n, fan_in), (out, fan_in), (out,), (n, out)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def close(ours, want, terms):
    """Whether a sum of so many terms is rounded like a sum in float32."""
    return (ours.double() - want).abs().max() <= 4e-7 * terms**0.5 * max(1.0, want.abs().max())


@pytest.mark.parametrize(("n", "fan_in", "out"), SIZES)
def test_values_and_gradients(n, fan_in, out):
    x, weight, bias, grad = drawn(n, fan_in, out)
    x64, weight64, grad64 = x.double(), weight.double(), grad.double()
    assert close(linear(x, weight, bias), x64 @ weight64.T + bias, fan_in)
    assert close(linear(x, weight), x64 @ weight64.T, fan_in)
    x_grad, weight_grad = linear_gradients(grad, x, weight)
    assert close(x_grad, grad64 @ weight64, out)
    assert close(weight_grad, grad64.T @ x64, n)


def test_rows_that_are_not_aligned():
    x, weight, _, grad = drawn(4, 64, 8)
    whole = torch.zeros(8 * 64 + 1)
    shifted = whole[1:].view(8, 64).copy_(weight)
    assert linear(x, shifted).equal(linear(x, weight))
    for ours, want in zip(
        linear_gradients(grad, x, shifted), linear_gradients(grad, x, weight), strict=True
    ):
        assert ours.equal(want)


@pytest.mark.parametrize(("n", "fan_in", "out"), SIZES)
def test_the_number_of_threads_does_not_matter(n, fan_in, out):
    x, weight, bias, grad = drawn(n, fan_in, out)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            found.append((linear(x, weight, bias), *linear_gradients(grad, x, weight)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(a.equal(b) for a, b in zip(found[0], other, strict=True))


def test_arguments_are_checked_before_c_reads_them():
    x, weight, _, _ = drawn(3, 37, 5)
    with pytest.raises(ValueError, match="weight should be contiguous"):
        linear(x, weight[:, 1:])
