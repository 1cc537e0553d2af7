"""The functions of all backends are bit-identical, and foreach uses few operations."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from normfree import UserError
from normfree.cli.bench_optim import dispatched_operations
from normfree.models import build_model
from normfree.optim import AGCSGD, agc, param_groups, sgd_update
from normfree.optim.core import BACKENDS
from normfree.optim.core.foreach import CHUNK, SMALL

#: Scalars, vectors of several shapes, matrices and filters; repeated, unique and empty shapes, and
#: some that are too large to be stacked or to share a chunk.
SHAPES = [
    *[()] * 3,
    *[(5,)] * 4,
    *[(7, 1, 1, 1)] * 2,
    (1, 7),
    *[(4, 3)] * 3,
    *[(4, 2, 3, 3)] * 3,
    (6, 2, 3, 3),
    *[(1, 5, 3)] * 2,
    *[(2, 3, 2, 2, 2)] * 2,
    *[(0,)] * 2,
    *[(0, 3, 3)] * 2,
    (SMALL + 1,),
    *[(SMALL // 8, 9)] * 2,
    (64, CHUNK // 64 + 1),
]


def drawn(shapes, seed, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(shape, generator=generator)).to(dtype) for shape in shapes]


def same(reference, *others):
    for ours in others:
        assert len(ours) == len(reference)
        for a, b in zip(ours, reference, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            assert torch.equal(a.nan_to_num(), b.nan_to_num())
            assert torch.equal(a.isnan(), b.isnan())


def both(shapes, steps=3, dtype=torch.float32, unitwise=True, **update):
    """Parameters, velocities and scales after some steps with each backend."""
    results = []
    for backend in ("foreach", "reference"):
        params = drawn(shapes, 0, dtype=dtype)
        velocities = [torch.zeros_like(p) for p in params]
        scales = []
        for step in range(steps):
            grads = drawn(shapes, 1 + step, 10.0 ** (-step - 1), dtype)
            scale = agc(params, grads, clipping=0.05, unitwise=unitwise, backend=backend)
            sgd_update(params, grads, velocities, lr=0.3, scales=scale, backend=backend, **update)
            same(grads, drawn(shapes, 1 + step, 10.0 ** (-step - 1), dtype))
            scales += scale
        results.append((params, velocities, scales))
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("unitwise", [True, False])
def test_backends_agree_bit_for_bit(dtype, unitwise):
    ours, reference = both(SHAPES, dtype=dtype, unitwise=unitwise, weight_decay=0.01)
    for a, b in zip(ours, reference, strict=True):
        same(a, b)
    scales = torch.cat([s.flatten() for s in ours[2]])
    assert 0.1 < (scales < 1).float().mean() < 0.9  # some units are clipped and some are not


UPDATES = [
    {"momentum": m, "nesterov": n, "weight_decay": d}
    for m, n, d in itertools.product((0.0, 0.9), (True, False), (0.0, 0.05))
]


@pytest.mark.parametrize("update", UPDATES, ids=str)
def test_every_form_of_the_update_agrees(update):
    ours, reference = both(SHAPES[:-3], **update)
    for a, b in zip(ours, reference, strict=True):
        same(a, b)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), max_size=12), st.booleans())
def test_any_list_of_shapes_agrees(shapes, unitwise):
    ours, reference = both(shapes, steps=2, unitwise=unitwise)
    for a, b in zip(ours, reference, strict=True):
        same(a, b)


def test_without_scales_the_gradient_is_unchanged():
    params, grads = drawn([(3,)] * 2, 0), drawn([(3,)] * 2, 1)
    want = [p - 0.5 * g for p, g in zip(params, grads, strict=True)]
    sgd_update(params, grads, [], lr=0.5, momentum=0.0)
    same(params, want)


def test_gradients_that_are_not_finite_stay_where_they_are():
    results = []
    for backend in BACKENDS:
        params, grads = drawn([(4, 3)] * 3, 0), drawn([(4, 3)] * 3, 1)
        grads[1][2, 0], grads[2][0, 1] = torch.nan, torch.inf
        scales = agc(params, grads, backend=backend)
        sgd_update(params, grads, [], lr=1.0, momentum=0.0, scales=scales, backend=backend)
        broken = torch.stack([~p.isfinite().all(dim=1) for p in params])
        assert broken.nonzero().tolist() == [[1, 2], [2, 0]]
        results.append(params)
    same(*results)


@pytest.mark.parametrize("shapes", [[(8, 4, 3, 3)] * 3, [(64, 32, 3, 3)] * 2], ids=["small", "big"])
def test_channels_last_filters_agree_and_stay_channels_last(shapes):
    results = []
    for backend in BACKENDS:
        tensors = [
            [x.to(memory_format=torch.channels_last) for x in drawn(shapes, seed)]
            for seed in range(3)
        ]
        params, grads, velocities = tensors
        scales = agc(params, grads, backend=backend)
        sgd_update(params, grads, velocities, lr=0.1, scales=scales, backend=backend)
        for x in (*params, *velocities):
            assert x.is_contiguous(memory_format=torch.channels_last)
        results.append([*params, *velocities, *scales])
    same(*results)


def test_gradients_in_another_layout_than_the_weights_agree():
    results = []
    for backend in BACKENDS:
        params, grads, velocities = (drawn([(8, 4, 3, 3)] * 3, seed) for seed in range(3))
        grads = [g.to(memory_format=torch.channels_last) for g in grads]
        scales = agc(params, grads, backend=backend)
        sgd_update(params, grads, velocities, lr=0.1, scales=scales, backend=backend)
        results.append([*params, *velocities, *scales])
    same(*results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scales_have_the_shape_of_their_norms(backend):
    shapes = [(), (5,), (7, 1, 1, 1), (4, 3), (4, 2, 3, 3), (4, 3)]
    args = drawn(shapes, 0), drawn(shapes, 1)
    scales = agc(*args, backend=backend)
    assert [tuple(s.shape) for s in scales] == [(), (), (), (4, 1), (4, 1, 1, 1), (4, 1)]
    whole = agc(*args, unitwise=False, backend=backend)
    assert [s.ndim for s in whole] == [0] * len(shapes)
    assert agc([], [], backend=backend) == []


def test_small_tensors_of_one_shape_cost_as_much_as_one():
    """The count does not grow with the number of tensors, except for splitting the scales."""
    for count in (30, 300):
        tensors = [drawn([(16,)] * count, seed) for seed in range(3)]
        assert dispatched_operations(lambda t=tensors: agc(*t[:2])) < 20
        assert (
            dispatched_operations(lambda t=tensors: sgd_update(*t, lr=0.1, weight_decay=0.1)) < 20
        )


def test_nfnet_f0_in_few_operations():
    """Updating its 233 parameters one by one took 4,115 operations."""
    counts = {}
    with torch.device("meta"):
        groups = param_groups(build_model("nfnet_f0", num_classes=1000))
    with FakeTensorMode():
        for group in groups:
            group["params"] = [nn.Parameter(torch.empty(p.shape)) for p in group["params"]]
            for param in group["params"]:
                param.grad = torch.empty(param.shape)
        for backend in BACKENDS:
            optimizer = AGCSGD([dict(group) for group in groups], lr=0.1, backend=backend)
            optimizer.step()
            counts[backend] = dispatched_operations(optimizer.step)
        assert dispatched_operations(lambda: optimizer.clipped_units) < 250
    assert counts["reference"] > 4000
    assert counts["foreach"] < 1250


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_functions_compile_without_a_graph_break(backend):
    shapes = [(), (5,), (5,), (4, 3), (4, 3), (4, 2, 3, 3)]

    def step(params, grads, velocities, lr):
        scales = agc(params, grads, clipping=0.05, backend=backend)
        sgd_update(params, grads, velocities, lr=lr, scales=scales, backend=backend)
        return scales

    results = []
    for call in (step, torch.compile(step, backend="aot_eager", fullgraph=True)):
        params, velocities = drawn(shapes, 0), drawn(shapes, 1)
        with torch.no_grad():
            scales = call(params, drawn(shapes, 2), velocities, torch.tensor(0.1))
        results.append([*params, *velocities, *scales])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_an_unknown_backend():
    for call in (
        lambda: agc([], [], backend="forech"),
        lambda: sgd_update([], [], [], lr=0.1, backend="forech"),
        lambda: AGCSGD([nn.Parameter(torch.ones(2))], backend="forech"),
    ):
        with pytest.raises(UserError, match="optimizer backend 'forech'; did you mean foreach"):
            call()
