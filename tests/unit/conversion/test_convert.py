"""Conversion of networks of every style: what must hold of the result."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import normfree
from normfree import UserError
from normfree.analysis import signal_propagation
from normfree.analysis.doctor import examine
from normfree.nn import ResidualBlock, WSConv2d
from normfree.optim import AGCSGD, param_groups
from tests.unit.conversion.networks import (
    STYLES,
    BasicBlock,
    Bottleneck,
    FunctionalResNet,
    ResNet,
)

RESIDUAL = [style for style in STYLES if style != "plain"]
CLASSIFIER = {"plain": "3"}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def groups_of(model, style):
    return param_groups(model, clipping=0.04, classifier=CLASSIFIER.get(style, "auto"))


def noise(style):
    """Images that satisfy the assumptions of the analytic variances.

    Where skip paths pool, noise that repeats every two pixels, which behind a stem of stride 2 is
    constant in space; where filters are depthwise, white noise, which they need.
    """
    if style == "timm":
        return torch.randn(256, 3, 2, 2).repeat(1, 1, 16, 16)
    return torch.randn(16, 3, 64, 64)


@pytest.mark.parametrize("style", STYLES)
def test_no_batch_normalization_remains_and_the_original_is_untouched(style):
    original = STYLES[style]()
    before = copy.deepcopy(original.state_dict())
    model, report = normfree.convert(original)
    assert report.complete
    assert not report.left
    assert not any(isinstance(m, nn.modules.batchnorm._NormBase) for m in model.modules())
    assert not any(type(m) is nn.Conv2d and max(m.kernel_size) > 1 for m in model.modules())
    after = original.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    shape = original.eval()(torch.randn(2, 3, 32, 32)).shape
    assert model(torch.randn(2, 3, 32, 32)).shape == shape


def without_borders(model):
    """Continue maps at their other side: zeros would take variance where maps are small."""
    for conv in model.modules():
        if isinstance(conv, WSConv2d) and conv.padding != (0, 0):
            (down, right), conv.padding = conv.padding, (0, 0)
            sides = (right, right, down, down)
            conv.register_forward_pre_hook(
                lambda conv, args, sides=sides: nn.functional.pad(args[0], sides, "circular")
            )
    return model


@pytest.mark.parametrize("style", RESIDUAL)
def test_the_variance_follows_the_analytic_sequence(style):
    model, _ = normfree.convert(STYLES[style](), weights="new")
    without_borders(model)
    signals = signal_propagation(model, noise(style), skip_gain=1)
    assert len(signals) == sum(isinstance(m, ResidualBlock) for m in model.modules())
    for signal in signals:
        assert signal.expected is not None
        assert 0.8 < signal.variance / signal.expected < 1.2, signal
        assert 0.7 < signal.branch_variance < 1.4, signal


def test_the_blocks_continue_the_sequence():
    model, _ = normfree.convert(STYLES["resnet18"]())
    blocks = [m for m in model.modules() if isinstance(m, ResidualBlock)]
    expected, variance = [], 1.0
    for block in blocks:
        expected.append(variance**-0.5)
        variance = (variance if block.shortcut is None else 1) + 0.04
    assert [block.beta for block in blocks] == pytest.approx(expected)
    assert {block.alpha for block in blocks} == {0.2}
    assert all(block.skip_gain.item() == 0 for block in blocks)


def test_a_resnet_becomes_exactly_the_papers():
    """The same function as our NF-ResNet, at a size at which symmetric padding is SAME."""
    widths, depths = (32, 64, 64, 128), (2, 1, 3, 2)
    original = ResNet(Bottleneck, widths, depths, pool=True, stem=8)
    model, _ = normfree.convert(original)
    ours = normfree.create_model("nf_resnet50", widths=widths, depths=depths, num_classes=10)
    pairs = {"stem.conv": "conv1", "classifier": "fc"}
    found = dict(model.named_modules())
    blocks = [name for name, m in found.items() if isinstance(m, ResidualBlock)]
    places = [f"stages.{s}.{k}" for s, depth in enumerate(depths) for k in range(depth)]
    for place, name in zip(places, blocks, strict=True):
        pairs |= {f"{place}.conv{k}": f"{name}.layers.conv{k + 1}" for k in range(3)}
        if found[name].shortcut is not None:
            pairs[f"{place}.shortcut.conv"] = f"{name}.shortcut.downsample.0"
        found[name].skip_gain.data.normal_()
        ours.get_submodule(place).skip_gain.data.copy_(found[name].skip_gain)
        assert ours.get_submodule(place).beta == pytest.approx(found[name].beta)
    for place, name in pairs.items():
        ours.get_submodule(place).load_state_dict(found[name].state_dict())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in ours.parameters())
    x = torch.randn(2, 3, 65, 65)
    torch.testing.assert_close(model.eval()(x), ours.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("style", STYLES)
def test_an_answer_depends_on_its_image_alone(style):
    model, _ = normfree.convert(STYLES[style]())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, ResidualBlock):
            module.skip_gain.data.fill_(1.0)
    x = torch.randn(6, 3, 32, 32)
    model.train()
    torch.testing.assert_close(model(x)[:2], model(x[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("style", STYLES)
def test_the_doctor_calls_it_healthy_and_every_parameter_has_a_group(style):
    model, _ = normfree.convert(STYLES[style]())
    groups = groups_of(model, style)
    counts = [id(p) for group in groups for p in group["params"]]
    assert sorted(counts) == sorted(id(p) for p in model.parameters())
    images = torch.randn(8, 3, 32, 32)
    assert examine(model, images, groups if style != "plain" else None) == []


@pytest.mark.parametrize("style", ["timm", "functional", "pre-activation", "plain"])
def test_it_learns_digits(style):
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    images = torch.tensor(digits.images[:512], dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
    images, labels = (images - 8) / 6, torch.tensor(digits.target[:512])
    model, _ = normfree.convert(STYLES[style]())
    optimizer = AGCSGD(groups_of(model, style), lr=0.1)
    losses = []
    for step in range(48):
        rows = slice(step % 8 * 64, step % 8 * 64 + 64)
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-8:]) < 0.5 * sum(losses[:8])


@pytest.mark.parametrize("style", STYLES)
def test_its_state_is_saved_and_loaded(style, tmp_path):
    model, _ = normfree.convert(STYLES[style]())
    torch.save(model.state_dict(), tmp_path / "x.pt")
    again, _ = normfree.convert(STYLES[style](), weights="new")
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model.eval()(x), again.eval()(x))
    again.load_state_dict(torch.load(tmp_path / "x.pt"))
    assert torch.equal(model(x), again(x))
    assert torch.equal(copy.deepcopy(model)(x), again(x))


def test_filters_are_kept_but_for_mean_and_scale():
    original = STYLES["resnet18"]()
    kept, _ = normfree.convert(original)
    new, _ = normfree.convert(original, weights="new")
    filters = original.conv1.weight.detach()
    centered = filters - filters.mean((1, 2, 3), keepdim=True)
    want = centered / centered.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(kept.conv1.weight.detach(), want)
    torch.testing.assert_close(kept.conv1.applied_weight(), want)
    assert not torch.allclose(new.conv1.weight, want, atol=0.1)
    for model in (kept, new):
        assert torch.equal(model.fc.weight, original.fc.weight)


def test_the_class_and_its_methods_stay_where_they_can():
    model, report = normfree.convert(STYLES["timm"]())
    assert type(model) is ResNet
    assert not report.traced
    assert model.forward_features(torch.randn(1, 3, 32, 32)).shape == (1, 64, 8, 8)
    assert model.layers[1][0].shortcut is not None
    model, report = normfree.convert(STYLES["functional"]())
    assert not isinstance(model, FunctionalResNet)
    assert report.traced
    assert "the forward pass is a traced graph now" in str(report)


def test_dropout_by_a_function_follows_the_mode():
    model, _ = normfree.convert(STYLES["functional"]())
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            module.skip_gain.data.fill_(1.0)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_activations_move_from_the_end_of_a_block_to_the_next():
    model, _ = normfree.convert(STYLES["resnet18"]())
    assert isinstance(model.relu, nn.Identity)
    blocks = [m for m in model.modules() if isinstance(m, ResidualBlock)]
    assert {block.act0.name for block in blocks} == {"relu"}
    last = model.layers[-1][-1]
    assert list(dict(last.named_children())) == ["block", "activation"]
    x = torch.randn(2, 3, 32, 32)
    features = model.forward_features(x)
    assert features.min() == 0


def test_a_stage_that_is_read_by_others_too_ends_with_its_activation():
    class Pyramid(ResNet):
        def forward(self, x):
            x = self.relu(self.bn1(self.conv1(x)))
            maps = []
            for stage in self.layers:
                x = stage(x)
                maps.append(x)
            return maps

    model, _ = normfree.convert(Pyramid(BasicBlock))
    maps = model(torch.randn(2, 3, 32, 32))
    assert all(m.min() == 0 for m in maps)
    acts = [m.act0.name for m in model.modules() if isinstance(m, ResidualBlock)]
    assert acts == ["relu", "relu", "identity", "relu"]


@pytest.mark.parametrize(
    ("model", "keywords", "said"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), {}, "has no batch normalization"),
        (STYLES["plain"](), {"weights": "kept"}, "unknown weights 'kept'; did you mean keep"),
        (STYLES["plain"](), {"alpha": 0.0}, r"alpha must be in \(0, 1\]; got 0.0"),
    ],
)
def test_errors(model, keywords, said):
    with pytest.raises(UserError, match=said):
        normfree.convert(model, **keywords)


def test_a_network_of_this_package_is_refused():
    with pytest.raises(UserError, match="create_model makes it without"):
        normfree.convert(normfree.create_model("bn_resnet50", widths=(8, 8, 8, 8)))


def test_a_forward_pass_that_branches_on_values_is_refused():
    class Branching(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(UserError, match=r"cannot follow the forward pass of the network \(Branch"):
        normfree.convert(Branching(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))


def test_a_block_that_is_called_twice_is_refused():
    class Recurrent(ResNet):
        def forward(self, x):
            x = self.layers[0][0](self.relu(self.bn1(self.conv1(x))))
            return self.layers[0][0](x)

    with pytest.raises(UserError, match=r"block layers.0.0 is called more than once"):
        normfree.convert(Recurrent(BasicBlock))


def test_it_is_exported():
    model, _ = normfree.convert(STYLES["plain"]())
    exported = torch.export.export(model.eval(), (torch.randn(2, 3, 32, 32),)).module()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-5)
