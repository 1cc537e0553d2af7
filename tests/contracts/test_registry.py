"""Contracts that every registered network satisfies, whatever its family."""

from __future__ import annotations

import copy
import dataclasses
import io
import math

import pytest
import torch
from torch.func import functional_call, grad, vmap

from normfree.models import build_model, list_models, model_config
from normfree.optim import param_groups
from tests.unit.models.shrunk import FAMILIES, NORMFREE, images, shrunk
from tests.unit.models.test_fold import shrunk as fields_of
from tests.unit.models.test_fold import trained


@pytest.mark.parametrize("name", list_models())
def test_every_name_builds_and_every_parameter_has_one_role(name):
    model = build_model(name, device="meta")
    groups = param_groups(model, weight_decay=2e-5, clipping=0.01)
    grouped = [n for g in groups for n in g["param_names"]]
    own = dict(model.named_parameters())
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == set(own)
    unclipped = {n for g in groups if g["clipping"] is None for n in g["param_names"]}
    assert unclipped == {"classifier.weight"}
    for group in groups:
        for n in group["param_names"]:
            assert (group["weight_decay"] > 0) == (own[n].ndim > 1), n

    config = model.config
    assert config.name == name
    assert config.train_size <= config.test_size
    assert (config.num_classes, config.in_channels) == (1000, 3)
    assert type(config)(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize("name", list_models())
def test_every_name_goes_forward_and_backward(name):
    """At full width but at most two blocks per stage; a third block would repeat the second."""
    depths = tuple(min(depth, 2) for depth in model_config(name).depths)
    model = build_model(name, device="meta", depths=depths)
    logits = model(torch.empty(2, 3, 64, 64, device="meta"))
    assert logits.shape == (2, 1000)
    logits.sum().backward()
    for n, p in model.named_parameters():
        assert p.grad is not None, n
        assert p.grad.shape == p.shape, n


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_every_name_gives_four_feature_maps(name):
    model = build_model(name, device="meta")
    config = model.config
    first = getattr(config, "stem_stride", 4)
    side = config.train_size
    maps = model.feature_maps(torch.empty(2, 3, side, side, device="meta"))
    sides = [math.ceil(side / stride) for stride in (first, 2 * first, 4 * first, 8 * first)]
    assert [m.shape[2:] for m in maps] == [(s, s) for s in sides]
    assert [m.shape[0] for m in maps] == [2] * 4
    assert model.head(maps[-1]).shape == (2, model.num_features, sides[-1], sides[-1])


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_a_saved_state_makes_another_build_the_same_function(name):
    model, x = trained(name), images().double()
    torch.manual_seed(1)
    other = build_model(name, dtype=torch.float64, **fields_of(name)).eval()
    assert not torch.allclose(other(x), model(x))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    ours, theirs = model.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert torch.equal(other(x), model(x))


def test_a_family_of_each_kind_is_checked():
    """A new family must also be added to ``tests/unit/models/shrunk.py``."""
    kinds = [
        {(type(c), c.normalization) for c in map(model_config, n)}
        for n in (FAMILIES, list_models())
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_finite_and_reach_every_parameter(name):
    model, x = shrunk(name), images().requires_grad_()
    before = x.detach().clone()
    model(x).square().sum().backward()
    for n, p in model.named_parameters():
        assert p.grad is not None, n
        assert p.grad.isfinite().all(), n
        assert p.grad.abs().max() > 0, n
    assert x.grad.abs().max() > 0
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", FAMILIES)
def test_channels_last_is_the_same_function(name):
    model, x = shrunk(name, dtype=torch.float64), images().double()
    want = model.eval()(x)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), want)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_autocast_is_near_float32(name):
    model, x = shrunk(name).eval(), images()
    want = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        ours = model(x)
    assert (ours.float() - want).norm() < 0.05 * want.norm()
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).float().square().sum()
    loss.backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", FAMILIES)
def test_copies_compute_the_same(name):
    model, x = shrunk(name).eval(), images()
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))


@pytest.mark.parametrize("name", NORMFREE)
def test_per_sample_gradients_equal_a_loop(name):
    """Differential privacy needs per-sample gradients, which batch normalization rules out."""
    model, x = shrunk(name, drop_rate=0.3, stochastic_depth_rate=0.5).double(), images().double()
    keys = torch.tensor([11, 12, 13])
    parameters = dict(model.named_parameters())

    def loss(parameters, image, key):
        return functional_call(model, parameters, (image[None], key[None])).square().sum()

    together = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, keys)
    for i in range(3):
        model.zero_grad()
        model(x[i : i + 1], keys[i : i + 1]).square().sum().backward()
        for n, p in model.named_parameters():
            torch.testing.assert_close(together[n][i], p.grad, rtol=1e-8, atol=1e-10)


#: Networks usually break the tracer. Inductor compiles for a minute, so it is a slow test.
COMPILED = [
    ("nfnet_f0", "aot_eager", "train"),
    ("nfnet_f0", "aot_eager", "eval"),
    pytest.param("nfnet_f0", "inductor", "train", marks=pytest.mark.slow),
    pytest.param("nfnet_f0", "inductor", "eval", marks=pytest.mark.slow),
    ("nf_resnet50", "aot_eager", "train"),
    ("nf_resnet50", "aot_eager", "eval"),
    ("nf_regnet_b0", "aot_eager", "train"),
    ("bn_nfnet_f0", "aot_eager", "train"),
    ("bn_resnet50", "aot_eager", "eval"),
]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # raised by inductor itself
@pytest.mark.parametrize(("name", "backend", "mode"), COMPILED)
def test_compiles_as_one_graph(name, backend, mode):
    model = shrunk(name, drop_rate=0.2, stochastic_depth_rate=0.5, depths=(1, 1, 1, 1))
    model.train(mode == "train")
    x, keys = images(2, 33), torch.tensor([5, 6])
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with torch.set_grad_enabled(mode == "train"):
        ours, want = compiled(x, keys), model(x, keys)
    torch.testing.assert_close(ours, want, rtol=1e-4, atol=1e-5)
    if mode == "train":
        parameters = list(model.parameters())
        gradients = [torch.autograd.grad(y.square().sum(), parameters) for y in (ours, want)]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize("name", FAMILIES)
def test_exports_with_any_batch_size(name):
    model = shrunk(name, depths=(1, 1, 1, 1)).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (images(2, 33),), dynamic_shapes=({0: batch},))
    for count in (1, 5):
        torch.testing.assert_close(program.module()(images(count, 33)), model(images(count, 33)))


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu", "log_softmax", "soft_sign"])
def test_other_activations(activation):
    model = shrunk("nfnet_f0", activation=activation)
    model(images()).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["nfnet_f0", "bn_resnet50"])
def test_compiles_with_activation_checkpointing(name):
    """Same outputs and gradients as without the compiler, and statistics are updated once."""
    fields = {"drop_rate": 0.2, "stochastic_depth_rate": 0.5, "activation_checkpointing": "block"}
    model = shrunk(name, depths=(1, 1, 1, 1), **fields).train()
    eager = copy.deepcopy(model)
    x, keys = images(4, 33), torch.arange(4)
    torch.compiler.reset()
    results = []
    for network in (torch.compile(model, fullgraph=True, backend="aot_eager"), eager):
        logits = network(x, keys)
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in network.parameters()), *network.buffers()])
    for a, b in zip(*results, strict=True):
        # on the CPU, kernels of this package compute the convolutions of the second network only
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
