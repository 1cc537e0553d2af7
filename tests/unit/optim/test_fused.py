"""The fused backend against the reference: parameters, velocities, averages and clip decisions."""

from __future__ import annotations

import copy
import itertools
import platform

import pytest
import torch
from torch import nn

from normfree import kernels
from normfree.kernels import library
from normfree.optim import AGCSGD, EMA
from normfree.optim.core import BACKENDS, Lists, Settings, foreach, reference

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
pytestmark = pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))
fused = BACKENDS["fused"]

#: Scalars, vectors, matrices and filters, empty ones, units longer than a cache line, rows for
#: several threads, and a vector and a matrix that are larger than a piece.
SHAPES = [
    *[(), (1,), (5,), (33,), (7, 1, 1, 1), (1, 7), (4, 3), (9, 2, 3, 3), (2, 3, 2, 2, 2)],
    *[(0,), (0, 3, 3), (3, 0, 2), (40, 513), (70, 31, 3, 3), (20_001,), (3, 17_000)],
]
SETTINGS = Settings(
    lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, clipping=0.05, eps=1e-3, unitwise=True
)


@pytest.fixture(params=COMPILED)
def instruction_set(request):
    """Each compiled instruction set that this machine supports."""
    if not library.use(request.param):
        pytest.skip(f"no kernels for {request.param} here")
    yield
    library.use()


@pytest.fixture
def threads():
    """Sets the number of threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def alone(monkeypatch):
    """Nothing is left to the foreach backend."""
    monkeypatch.setattr(foreach, "step", None)


def drawn(seed, scale=1.0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


def trained(backend, settings, steps, change=lambda x: x, averages=True, shapes=SHAPES):
    """Parameters, velocities, averages, and the scales of all steps."""
    params, copies = ([change(x) for x in drawn(0, shapes=shapes)] for _ in range(2))
    velocities = [torch.zeros_like(p) for p in params] if settings.momentum else []
    scales = []
    for step in range(steps):
        grads = [change(x) for x in drawn(1 + step, 10.0 ** -(step % 4), shapes)]
        lists = Lists(params, grads, velocities, copies if averages else ())
        scales += backend.step(lists, settings) or []
    return params, velocities, copies, scales


def equal_to_the_reference(settings, steps=20, **how):
    found, wanted = (trained(b, settings, steps, **how) for b in (fused, reference))
    for a, b in zip(found, wanted, strict=True):
        assert [x.shape for x in a] == [x.shape for x in b]
        for x, y in zip(a, b, strict=True):
            assert (x - y).norm() <= 1e-6 * y.norm()
    for x, y in zip(found[-1], wanted[-1], strict=True):
        assert torch.equal(x < 1, y < 1)
    return wanted[-1]


OPTIONS = [
    {"momentum": m, "nesterov": n, "weight_decay": d, "clipping": c, "unitwise": u}
    for m, n, d, (c, u) in itertools.product(
        (0.0, 0.9), (True, False), (0.0, 0.05), ((None, True), (0.05, True), (0.05, False))
    )
]


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.usefixtures("alone")
def test_all_options_equal_the_reference_over_20_steps(options, averages):
    settings = SETTINGS._replace(**options, average_weight=0.3)
    scales = equal_to_the_reference(settings, averages=averages)
    if settings.clipping is None:
        assert scales == []
    else:
        scale = torch.cat([s.flatten() for s in scales])
        assert 0.1 < (scale < 1).float().mean() < 0.9  # some are clipped and some are not


@pytest.mark.usefixtures("instruction_set", "alone")
@pytest.mark.parametrize("average_weight", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_every_instruction_set_equals_the_reference(average_weight):
    equal_to_the_reference(SETTINGS._replace(average_weight=average_weight))


@pytest.mark.parametrize("unitwise", [True, False])
def test_results_depend_on_neither_threads_nor_instruction_set(unitwise, threads):
    results = []
    try:
        for name, number in itertools.product(COMPILED, (1, 2, 5)):
            if library.use(name):
                threads(number)
                results.append(trained(fused, SETTINGS._replace(unitwise=unitwise), 3))
    finally:
        library.use()
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert all(map(torch.equal, a, b))


@pytest.mark.usefixtures("alone")
def test_but_for_norms_the_update_has_the_bits_of_pytorch():
    for options in OPTIONS:
        if options["clipping"] is None:
            settings = SETTINGS._replace(**options, average_weight=0.01)
            both = trained(fused, settings, 3), trained(reference, settings, 3)
            for a, b in zip(*both, strict=True):
                assert all(map(torch.equal, a, b))


@pytest.mark.usefixtures("alone")
def test_channels_last_filters_stay_so():
    shapes = [(8, 4, 3, 3), (64, 32, 3, 3), (5, 3, 1, 1)]
    last = lambda x: x.to(memory_format=torch.channels_last)  # noqa: E731
    equal_to_the_reference(SETTINGS, steps=3, change=last, shapes=shapes)
    for tensors in trained(fused, SETTINGS, 1, last, shapes=shapes)[:3]:
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors)


class Subclass(torch.Tensor):
    """A tensor whose memory may mean something else."""


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.double(),
        lambda x: x.as_subclass(Subclass),
        lambda x: x.to(torch.bfloat16),
        lambda x: x.repeat_interleave(2, -1)[..., ::2] if x.ndim else x,
    ],
    ids=["double", "subclass", "half", "gaps"],
)
def test_other_tensors_are_left_to_foreach(change):
    found, wanted = (trained(b, SETTINGS, 2, change) for b in (fused, foreach))
    for a, b in zip(found, wanted, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_a_mixed_list_keeps_its_order():
    """Every second gradient has another layout than its parameter."""
    results = []
    for backend in (fused, reference):
        params, grads = (drawn(seed, shapes=[(8, 4, 3, 3)] * 5) for seed in (0, 1))
        grads[1::2] = [g.to(memory_format=torch.channels_last) for g in grads[1::2]]
        averages = [None, *(p.clone() for p in params[1:])]
        settings = SETTINGS._replace(momentum=0.0, average_weight=0.5)
        scales = backend.step(Lists(params, grads, [], averages), settings)
        results.append([*params, *averages[1:], *scales])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [12, 20_000])
@pytest.mark.parametrize("unitwise", [True, False])
def test_numbers_that_are_not_finite_stay_where_the_reference_has_them(size, unitwise):
    shapes = [(4, size)] * 5
    results = []
    for backend in (fused, reference):
        params, grads = (drawn(seed, shapes=shapes) for seed in (0, 1))
        grads[1][2, 0], grads[2][0, 1], grads[3][1, 1] = torch.nan, torch.inf, 1e25
        params[4][3, 5] = torch.nan
        settings = SETTINGS._replace(momentum=0.0, unitwise=unitwise)
        scales = backend.step(Lists(params, grads), settings)
        results.append([*params, *scales])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 5))


def steps(network, optimizer, average, first, count, ema=None):
    for step in range(first, first + count):
        torch.manual_seed(step)
        optimizer.zero_grad()
        network(torch.randn(6, 3, 4, 4)).square().mean().backward()
        average(optimizer, ema, step)


def jointly(optimizer, ema, step):
    optimizer.step_and_average(ema, step)


def apart(optimizer, ema, step):
    optimizer.step()
    ema.update(step)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.99999])
def test_the_joint_pass_gives_the_same_bits(backend, decay):
    results = []
    for average in (jointly, apart):
        model = network()
        model[0].bias.requires_grad_(False)  # averaged, but not in any list
        ema = EMA(model, decay)
        other = nn.Parameter(torch.ones(3))  # in a list, but not averaged
        other.grad = torch.ones(3)
        optimizer = AGCSGD([*model.parameters(), other], lr=0.1, backend=backend)
        steps(model, optimizer, average, 0, 12, ema)
        results.append([*model.state_dict().values(), *ema.state_dict().values()])
        results[-1] += [state["momentum_buffer"] for state in optimizer.state.values()]
        assert optimizer.total_units == 8 + 1 + 1 + 5 + 1
    assert all(map(torch.equal, *results))


def test_an_average_is_updated_once_if_a_step_fails():
    model = network()
    ema, optimizer = EMA(model), AGCSGD(model.parameters(), lr=0.1)
    model(torch.randn(6, 3, 4, 4)).square().mean().backward()
    handle = optimizer.register_step_post_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.step_and_average(ema, 0)
    handle.remove()
    before = copy.deepcopy(ema.state_dict())
    optimizer.step()  # no average any more
    assert all(map(torch.equal, before.values(), ema.state_dict().values()))


def test_training_resumes_to_the_bit():
    whole, part = network(), network()
    ema = EMA(whole)
    optimizer = AGCSGD(whole.parameters(), lr=0.1)
    steps(whole, optimizer, jointly, 0, 6, ema)
    first, average = AGCSGD(part.parameters(), lr=0.1), EMA(part)
    steps(part, first, jointly, 0, 3, average)
    resumed = AGCSGD(part.parameters(), lr=0.1)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(part, resumed, jointly, 3, 3, average)
    for a, b in ((whole, part), (ema.model, average.model)):
        assert all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def test_autograd_notices_the_change():
    w = nn.Parameter(torch.ones(4, 3))
    optimizer = AGCSGD([w], lr=0.1)
    w.grad = torch.ones(4, 3)
    optimizer.step()  # makes the momentum buffer
    loss, averages = w.square().sum(), [torch.zeros(4, 3)]
    velocity = optimizer.state[w]["momentum_buffer"]
    versions = [x._version for x in (w, velocity, averages[0], w.grad)]
    fused.step(Lists([w.detach()], [w.grad], [velocity], averages), SETTINGS)
    after = [x._version for x in (w, velocity, averages[0], w.grad)]
    assert [a > b for a, b in zip(after, versions, strict=True)] == [True, True, True, False]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_learning_rate_can_be_a_tensor():
    results = [
        trained(fused, SETTINGS._replace(lr=lr), 2) for lr in (0.1, torch.tensor(0.1).double())
    ]
    for a, b in zip(*results, strict=True):
        assert all(map(torch.equal, a, b))


def test_without_kernels_foreach_is_used(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "0")
    for a, b in zip(trained(fused, SETTINGS, 2), trained(foreach, SETTINGS, 2), strict=True):
        assert all(map(torch.equal, a, b))
