"""Kernels of feature maps against float64, with every instruction set."""

from __future__ import annotations

import platform

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from normfree import kernels
from normfree.kernels import library, maps

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
FUNCTIONS = {"gelu": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu, "silu": F.silu}
SHAPES = [(1, 1, 1, 1), (2, 3, 1, 1), (3, 5, 3, 3), (2, 40, 7, 9), (1, 515, 5, 7), (2, 7, 40, 41)]
ODD = 1 << 14
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(params=COMPILED, autouse=True)
def instruction_set(request):
    """Run each test with every compiled instruction set that this machine supports."""
    if not kernels.available() or not library.use(request.param):
        pytest.skip(f"no kernels for {request.param} here")
    yield
    library.use()


def drawn(*shapes, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(sum(shapes[0]))
    found = [torch.randn(shape, generator=generator) for shape in shapes]
    return [x.contiguous(memory_format=memory_format) if x.ndim == 4 else x for x in found]


def every_magnitude():
    """Both signs of numbers from subnormal to the largest, and a dense range around zero."""
    powers = torch.arange(-149, 128, 0.01, dtype=torch.float64).exp2().float()
    largest = torch.tensor([torch.finfo(torch.float32).max])
    dense = torch.linspace(-100, 100, 400_001)
    return torch.cat([powers, -powers, largest, -largest, dense, dense / 10, torch.zeros(1)])


def error(ours, want, x):
    """The largest error, relative to the input or to 1e-3."""
    return ((ours.double() - want).abs() / x.double().abs().clamp_min(1e-3)).max().item()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_over_the_range_of_float32(name):
    x = every_magnitude()
    want = 0.7 * FUNCTIONS[name](x.double())
    assert error(maps.activate(name, x, 0.7), want, x) < 1.5e-7


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_activations_over_the_range_of_float32(name):
    x = every_magnitude()
    x64 = x.double().clamp(-1e30, 1e30).requires_grad_()  # PyTorch's gradient of GELU overflows
    grad = torch.linspace(-3, 3, len(x))
    (want,) = torch.autograd.grad(0.7 * FUNCTIONS[name](x64), x64, grad.double())
    ours = maps.activate(name, x, 0.7, grad)
    assert (ours.double() - want).abs().max() < 5e-7


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_that_are_not_finite(name):
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, 1.0])
    torch.testing.assert_close(
        maps.activate(name, x, 2.0), 2 * FUNCTIONS[name](x), equal_nan=True, rtol=1e-6, atol=0
    )
    slopes = maps.activate(name, x, 2.0, torch.ones(4))
    torch.testing.assert_close(slopes[:2], torch.tensor([2.0, 0.0]))  # the limits
    assert slopes[3] > 1.8
    assert name == "relu" or slopes[2].isnan()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_place_of_an_element_does_not_matter(name):
    """Vectors, their tails and threads take the same steps."""
    (x,) = drawn((3 * ODD + 5,))
    whole = maps.activate(name, x, 1.7)
    for first, last in ((0, 1), (3, 40), (7, 7 + 2 * ODD)):
        part = x[first:last].clone()
        assert torch.equal(maps.activate(name, part, 1.7), whole[first:last])


def test_instruction_sets_agree_to_the_bit():
    x = every_magnitude()
    a, b = drawn((2, 30, 13, 11), (2, 30, 13, 11))
    found = []
    for name in filter(library.use, COMPILED):
        values = [maps.activate(f, x, 1.7) for f in FUNCTIONS]
        slopes = [maps.activate(f, x, 1.7, x.sign()) for f in FUNCTIONS]
        sums = [maps.channel_sums(a), maps.channel_sums(a, b)]
        found.append((name, [*values, *slopes, *sums]))
    for _, others in found[1:]:
        for one, other in zip(found[0][1], others, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gates_and_sums(shape, memory_format):
    x, other, gate, shift = drawn(shape, shape, shape[:2], shape[:2], memory_format=memory_format)
    x64, other64 = x.double(), other.double()
    gate64, shift64 = (t.double()[:, :, None, None] for t in (gate, shift))
    for ours, want in (
        (maps.gate(x, gate), x64 * gate64),
        (maps.gate(x, gate, other), x64 * gate64 + other64),
        (maps.gate(x, gate, None, shift), x64 * gate64 + shift64),
        (maps.channel_sums(x), x64.sum((2, 3))),
        (maps.channel_sums(x, other), (x64 * other64).sum((2, 3))),
        (maps.gate_gradients(other, x, gate)[0], other64 * gate64),
        (maps.gate_gradients(other, x, gate)[1], (x64 * other64).sum((2, 3))),
    ):
        torch.testing.assert_close(ours.double(), want, rtol=2e-6, atol=1e-5)
    assert maps.gate(x, gate).stride() == x.stride()


def test_memory_formats_may_differ():
    x, other, gate = drawn((2, 5, 4, 6), (2, 5, 4, 6), (2, 5))
    last = other.to(memory_format=torch.channels_last)
    assert torch.equal(maps.gate(x, gate, last), maps.gate(x, gate, other))
    assert torch.equal(maps.channel_sums(x, last), maps.channel_sums(x, other))
    wide = torch.randn(2, 5, 4, 12)
    wide[..., ::2] = other
    assert torch.equal(maps.gate(x, gate, wide[..., ::2]), maps.gate(x, gate, other))
    expanded = torch.ones(()).expand(2, 5, 4, 6)
    assert torch.equal(maps.activate("relu", x, 2.0, expanded), 2.0 * (x > 0))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)], ids=str)
def test_empty_maps(shape):
    x = torch.empty(shape)
    assert maps.activate("gelu", x, 1.0, x).shape == shape
    assert maps.gate(x, x.new_empty(shape[:2]), x).shape == shape
    assert maps.channel_sums(x).shape == shape[:2]


def test_sums_of_many_pixels_stay_accurate():
    """A plain sum of a million numbers would lose three digits."""
    for memory_format in FORMATS:
        x = torch.full((1, 3, 1000, 1000), 0.1).contiguous(memory_format=memory_format)
        want = x.double().sum((2, 3)).float()
        torch.testing.assert_close(maps.channel_sums(x), want, rtol=3e-6, atol=0)


def test_the_number_of_threads_does_not_matter():
    x, other, gate = drawn((3, 40, 37, 29), (3, 40, 37, 29), (3, 40))
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            found.append((maps.gate(x, gate, other), maps.channel_sums(x, other)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for one in found[1:] for a, b in zip(one, found[0], strict=True))


def test_what_is_not_supported():
    x = torch.zeros(2, 4)
    assert maps.supported(x)
    for other in (x.double(), x.half(), x[:, ::2], x.to("meta"), x.to_sparse(), None):
        assert not maps.supported(other)
