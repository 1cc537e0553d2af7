"""Kernels against the equations, by Triton's interpreter; ``test_triton.py`` runs this file."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import Tensor

from normfree.kernels import Weight, triton
from normfree.nn.functional import standardize_weight, standardize_weight_backward
from normfree.optim import agc, sgd_update
from normfree.optim.core import Lists, Settings, fused, reference
from normfree.optim.functional import has_units

#: Filters and matrices of odd and even sizes, one unit, one column, rows of several blocks.
FILTERS = [(5, 7, 3, 3), (3, 27), (8, 16, 1, 1), (1, 9), (4, 1), (2, 130), (0, 3), (3, 0)]


def drawn(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filters(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, one row of them constant, gains, and a gradient."""
    weight, gain, grad = drawn(shape, 0), drawn(shape[:1], 1), drawn(shape, 2)
    if shape[0] > 2:
        weight[1] = 0.3
    return weight, gain, grad


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        found.double(), expected, rtol=0, atol=tolerance * max(scale, 1e-3), equal_nan=True
    )


@pytest.fixture(params=[32, 4096], ids=["short blocks", "long blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("normfree.kernels.triton.standardize")
    monkeypatch.setattr(module, "BLOCK", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("shape", FILTERS, ids=str)
@pytest.mark.parametrize("eps", [1e-4, 20.0])
def test_standardization_and_its_gradient(shape: tuple[int, ...], eps: float) -> None:
    weight, gain, grad = filters(shape)
    exact = [x.double() for x in (grad, weight, gain)]
    result = triton.standardize(weight, gain, eps)
    gradients = triton.standardize_backward(grad, weight, gain, eps)
    assert result is not None
    assert gradients is not None
    if not weight.numel():
        assert result.shape == gradients[0].shape == shape
        return
    near(result, standardize_weight(*exact[1:], eps))
    for found, expected in zip(gradients, standardize_weight_backward(*exact, eps), strict=True):
        near(found, expected)


def test_a_constant_filter_gives_zeros() -> None:
    weight, gain = torch.full((2, 3, 5, 5), 0.1), torch.ones(2)
    assert not triton.standardize(weight, gain, 1e-4).any()
    weight_grad, gain_grad = triton.standardize_backward(drawn(weight.shape, 0), weight, gain, 1e-4)
    assert not gain_grad.any()
    assert weight_grad.isfinite().all()


def test_the_memory_format_is_that_of_the_weights() -> None:
    weight, gain, grad = filters((5, 8, 3, 3))
    last = weight.to(memory_format=torch.channels_last)
    result = triton.standardize(last, gain, 1e-4)
    assert result.stride() == last.stride()
    near(result, standardize_weight(weight.double(), gain.double()))
    plain = triton.standardize_backward(grad, weight, gain, 1e-4)
    found = triton.standardize_backward(grad, last, gain, 1e-4)  # the gradient comes otherwise
    assert found[0].stride() == last.stride()
    near(found[0], plain[0].double())
    assert triton.standardize(weight[:, :4], gain, 1e-4) is None  # with gaps


def test_half_precision_is_computed_in_float32_and_rounded_once() -> None:
    weight, gain, grad = filters((5, 7, 3, 3))
    full = triton.standardize(weight, gain, 1e-4)
    half = triton.standardize(weight, gain, 1e-4, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=2**-7, atol=0)  # the interpreter truncates
    rounded = grad.bfloat16()
    found = triton.standardize_backward(rounded, weight, gain, 1e-4)
    same = triton.standardize_backward(rounded.float(), weight, gain, 1e-4)
    assert all(torch.equal(a, b) for a, b in zip(found, same, strict=True))


#: Scalars, vectors and matrices that are one unit, and tensors of many.
SHAPES = [*FILTERS, (), (17,), (40,), (8, 1, 1, 1), (0,)]


def weights_of(*lists: list[Tensor] | list[None]) -> list[Weight]:
    shapes = [tensor.shape for tensor in lists[0]]
    units = [shape[0] if has_units(shape) else 1 for shape in shapes]
    return [Weight(*some) for some in zip(*lists, units, strict=True)]


@pytest.mark.parametrize(
    ("momentum", "nesterov", "averages", "clips", "on_device", "block"),
    [
        (0.9, True, True, True, False, 1024),
        (0.9, True, True, True, True, 32),
        (0.9, False, False, True, False, 1024),
        (0.0, True, True, False, True, 1024),
    ],
)
def test_twenty_steps_are_those_of_the_reference(
    momentum: float,
    nesterov: bool,
    averages: bool,
    clips: bool,
    on_device: bool,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(import_module("normfree.kernels.triton.update"), "BLOCK", block)
    params = [drawn(shape, 10 + i) for i, shape in enumerate(SHAPES)]
    ours = [[p.clone() for p in params], [torch.zeros_like(p) for p in params], params]
    ours[2] = [p.clone() for p in params]
    exact = [[x.double() for x in some] for some in ours]
    clipped = total = 0
    for step in range(20):
        grads = [drawn(s, 100 + 20 * step + i, 10.0 ** (-step % 4)) for i, s in enumerate(SHAPES)]
        nothing: list[None] = [None] * len(SHAPES)
        lr, weight = 0.01 + 0.001 * step, 0.3
        scales = triton.update_(
            weights_of(
                ours[0], grads, ours[1] if momentum else nothing, ours[2] if averages else nothing
            ),
            lr=torch.tensor(lr) if on_device else lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=0.02,
            clipping=0.05 if clips else None,
            eps=1e-3,
            average_weight=torch.tensor(weight) if on_device else weight,
        )
        twins = [g.double() for g in grads]
        expected = agc(exact[0], twins, clipping=0.05, backend="reference") if clips else None
        settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": 0.02}
        sgd_update(
            exact[0], twins, exact[1], lr=lr, scales=expected, backend="reference", **settings
        )
        if averages:
            torch._foreach_lerp_(exact[2], exact[0], weight)
        if expected is None:
            assert (scales == 1).all()
            continue
        flat = torch.cat([scale.flatten() for scale in expected])
        assert torch.equal(scales < 1, flat < 1)
        near(scales, flat)
        clipped, total = clipped + int((flat < 1).sum()), total + len(flat)
    assert not clips or 0.2 < clipped / total < 0.9
    for some, others in zip(ours, exact, strict=True):
        for found, wanted in zip(some, others, strict=True):
            near(found, wanted, 3e-6)


def test_a_gradient_that_is_not_finite_stays_in_its_unit() -> None:
    param, grad = drawn((4, 3), 0), drawn((4, 3), 1)
    grad[2, 0] = torch.nan
    settings = {"lr": 1.0, "momentum": 0.0, "nesterov": True, "weight_decay": 0.0}
    triton.update_(
        [Weight(param, grad, None, None, 4)],
        **settings,
        clipping=0.01,
        eps=1e-3,
        average_weight=0.0,
    )
    assert (~param.isfinite()).any(dim=1).nonzero().flatten().tolist() == [2]


def test_nothing_to_update() -> None:
    settings = {"lr": 1.0, "momentum": 0.0, "nesterov": True, "weight_decay": 0.0}
    assert len(triton.update_([], **settings, clipping=1.0, eps=1e-3, average_weight=0.0)) == 0


def test_the_fused_backend_takes_them_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = fused.Rows(triton.updatable, triton.update_)
    monkeypatch.setattr(import_module("normfree.kernels.triton.update"), "LONGEST", 130)
    shapes = [*SHAPES, (131,)]  # the last one is left to the foreach backend
    results = []
    for backend in (fused, reference):
        monkeypatch.setattr(fused, "_rows", lambda lists: rows)
        params = [drawn(shape, i) for i, shape in enumerate(shapes)]
        grads = [drawn(shape, 50 + i, 0.1) for i, shape in enumerate(shapes)]
        velocities, averages = [p.clone() for p in params], [p.clone() for p in params]
        settings = Settings(0.1, 0.9, True, 0.01, 0.05, 1e-3, True, average_weight=0.1)
        scales = backend.step(Lists(params, grads, velocities, averages), settings)
        assert all(p._version > 0 for p in params if p.numel())
        results.append([*params, *velocities, *averages, *scales])
    assert not rows.supported(Weight(drawn((131,), 0), drawn((131,), 0), None, None, 1))
    for found, wanted in zip(*results, strict=True):
        assert found.shape == wanted.shape
        near(found, wanted.double())
