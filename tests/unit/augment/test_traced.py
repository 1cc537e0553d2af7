"""The three operators under tracing: torch.compile, fake tensors and PyTorch's operator checks."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from normfree import kernels
from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, RandAugment, draw_mix, normalize
from normfree.augment.mix import Mix, mix_bytes
from normfree.augment.randaugment import OPERATIONS
from normfree.errors import UserError

N, HEIGHT, WIDTH = 8, 6, 7


@pytest.fixture(params=["kernels", "torch"], autouse=True)
def by(request, monkeypatch):
    """Run each test twice: with kernels, if they were built, and with PyTorch operations."""
    monkeypatch.setenv("NORMFREE_KERNELS", "1" if request.param == "kernels" else "0")
    if request.param == "kernels" and not kernels.available():
        pytest.skip(str(kernels.status()))
    return request.param


def images(n=N, height=HEIGHT, width=WIDTH, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def drawn(n=N):
    return draw_mix(torch.arange(n), torch.arange(n) % 2 == 0, HEIGHT, WIDTH)


def pipeline(one, other, how, plan, augment):
    return normalize(augment(mix_bytes(one, other, how), plan), IMAGENET_MEAN, IMAGENET_STD)


def test_compile_takes_the_whole_pipeline_without_a_break_or_a_new_graph():
    torch._dynamo.reset()
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, example)

    compiled = torch.compile(pipeline, fullgraph=True, backend=backend)
    for seed in range(3):  # the draws differ but the graph is the same
        augment = RandAugment(4, 10)
        plan = augment.draw(torch.arange(N) + seed, HEIGHT, WIDTH)
        given = (images(seed=seed), images(seed=9), drawn(), plan, augment)
        assert torch.equal(compiled(*given), pipeline(*given))
    assert len(graphs) == 1
    called = {str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"}
    assert {
        f"normfree.{name}.default" for name in ("mix_bytes", "randaugment", "normalize")
    } <= called


def test_fake_tensors_go_through_the_whole_pipeline():
    with FakeTensorMode():
        augment = RandAugment(4, 10)
        plan = augment.draw(torch.arange(N), HEIGHT, WIDTH)
        one, other = (torch.empty(N, 3, HEIGHT, WIDTH, dtype=torch.uint8) for _ in range(2))
        how = Mix(torch.empty(N), torch.empty(N, 4).long(), torch.empty(N).bool())
        found = pipeline(one, other, how, plan, augment)
        assert (found.shape, found.dtype) == (one.shape, torch.float32)
        assert mix_bytes(one.float(), other.float(), how).dtype == torch.uint8
        with pytest.raises(UserError, match="to mix 8 images, ratio"):
            mix_bytes(one, other, how._replace(ratio=how.ratio[:1]))
        with pytest.raises(UserError, match="a value for each of 3 channels"):
            normalize(one, [1.0, 2.0], [1.0])


def last(x):
    return x.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [lambda x: x, last, lambda x: x[:, :, :, ::2]])
def test_the_operators_pass_opcheck(layout):
    one, other = (layout(images(seed=seed)) for seed in (0, 1))
    plan = RandAugment(3, 10).draw(torch.arange(N), *one.shape[2:])
    ops, scale = torch.ops.normfree, [torch.tensor(x) for x in (IMAGENET_MEAN, IMAGENET_STD)]
    settings = (10.0, True, list(OPERATIONS))
    for operator, *arguments in (
        (ops.mix_bytes.default, one, other, *drawn()),
        (ops.mix_bytes.default, one.float(), other.float(), *drawn()),
        (ops.mix_bytes.default, one.double(), other.float(), *drawn()),
        (ops.normalize.default, one, *scale),
        (ops.normalize.default, one, torch.ones(1), torch.ones(3)),
        (ops.randaugment.default, one, plan.codes, plan.places, *settings),
    ):
        assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}
