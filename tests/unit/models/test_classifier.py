"""The interface of every family: feature maps, classifier, keys, any image size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree import UserError
from normfree.models import build_model
from normfree.nn import ACTIVATIONS, NFBlock, ScaledActivation, SqueezeExcite
from normfree.random import example_keys
from tests.unit.models.shrunk import FAMILIES, NORMFREE, images, shrunk

KEYS = torch.from_numpy(example_keys(0, 0, np.arange(6)))


@pytest.mark.parametrize("name", FAMILIES)
def test_feature_maps_have_strides_4_to_32(name):
    model = shrunk(name).eval()
    maps = model.feature_maps(images(2, 64))
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2]
    assert [m.shape[1] for m in maps] == [stage[-1].conv2.out_channels for stage in model.stages]
    features = model.forward_features(images(2, 64))
    assert features.shape == (2, model.num_features, 2, 2)
    torch.testing.assert_close(features, model.head(maps[-1]))
    logits = model.classifier(features.mean(dim=(2, 3)))
    torch.testing.assert_close(model(images(2, 64)), logits)


@pytest.mark.parametrize(
    ("stem_stride", "sides"),
    [(1, (32, 16, 8, 4)), (2, (16, 8, 4, 2)), ((1, 2, 1, 1), (16, 8, 4, 2))],
)
def test_smaller_stem_strides(stem_stride, sides):
    model = shrunk("nfnet_f0", stem_stride=stem_stride)
    assert tuple(m.shape[2] for m in model.feature_maps(images(1, 32))) == sides


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (65, 34), (71, 32)])
def test_any_size_of_image(name, size):
    model = shrunk(name).eval()
    x = torch.randn(2, 3, *size)
    assert model(x).shape == (2, 5)
    assert model(x).isfinite().all()
    last = tuple(-(-side // 32) for side in size)
    assert model.forward_features(x).shape[2:] == last


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(name, channels):
    model = shrunk(name, in_channels=channels).eval()
    assert model(images(2, 32, channels)).shape == (2, 5)


@pytest.mark.parametrize("name", FAMILIES)
def test_reset_classifier(name):
    model = shrunk(name, dtype=torch.float64).eval()
    x = images(2).double()
    features = model.forward_features(x)
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    assert model.config.num_classes == 3
    assert model.classifier.weight.dtype == torch.float64
    assert (model.classifier.bias == 0).all()
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), features.mean(dim=(2, 3)))
    assert model(x).shape == (2, model.num_features)
    assert shrunk(name, num_classes=0)(images(2)).shape == (2, model.num_features)


@pytest.mark.parametrize("name", NORMFREE)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_example_does_not_depend_on_the_rest_of_its_batch(name, mode):
    model = shrunk(name, drop_rate=0.5, stochastic_depth_rate=0.5, dtype=torch.float64)
    model.train(mode == "train")
    x = images(6).double()
    whole = model(x, KEYS)
    order = torch.tensor([4, 0, 5])
    torch.testing.assert_close(model(x[order], KEYS[order]), whole[order])
    for i in range(6):
        torch.testing.assert_close(model(x[i : i + 1], KEYS[i : i + 1]), whole[i : i + 1])
    others = x.clone()
    others[1:] = 100.0
    torch.testing.assert_close(model(others, KEYS)[0], whole[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_training_follows_the_keys_and_evaluation_needs_none(name):
    model = shrunk(name, drop_rate=0.5, stochastic_depth_rate=0.5)
    x = images(6)
    assert torch.equal(model(x, KEYS), model(x, KEYS))
    assert not torch.equal(model(x, KEYS), model(x, KEYS + 1))
    model.eval()
    assert torch.equal(model(x), model(x, KEYS))
    assert torch.equal(model(x), model(x))


def test_every_layer_has_its_own_stream():
    for name in ("nfnet_f3", "nf_resnet50", "nf_regnet_b0"):
        model = build_model(name, device="meta")
        streams = [m.stochastic_depth.stream for m in model.modules() if isinstance(m, NFBlock)]
        streams.append(model.dropout.stream)
        assert streams == list(range(sum(model.config.depths) + 1))


def test_freeze_counts_stages():
    model = shrunk("nfnet_f0")
    model.freeze(2)
    frozen = {name.partition(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "stages"}
    assert all(p.requires_grad for p in model.stages[2].parameters())
    assert not any(p.requires_grad for p in model.stages[1].parameters())
    model.freeze(0)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(UserError, match="0 to 4"):
        model.freeze(5)


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_stages_do_not_change_in_training(name):
    model = shrunk(name, stochastic_depth_rate=0.9)
    model.freeze(4)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("head")}
    maps = [model.feature_maps(images(4))[-1] for _ in range(2)]
    assert torch.equal(*maps), "a frozen stage must not draw masks"
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value), key
    model.freeze(0)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_activation_checkpointing_changes_no_number(name):
    results = []
    for setting in ("none", "block"):
        rates = {"drop_rate": 0.2, "stochastic_depth_rate": 0.5}
        model = shrunk(name, activation_checkpointing=setting, **rates)
        out = model(images(6), KEYS)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in model.parameters()), *model.buffers()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_initial_logits_are_near_zero_and_classes_equally_likely():
    torch.manual_seed(0)
    model = build_model("nfnet_pico", num_classes=10).eval()
    probabilities = model(images(16, 8)).softmax(dim=1)
    assert (probabilities - 0.1).abs().max() < 0.05


@pytest.mark.parametrize("name", FAMILIES)
def test_without_keys_the_model_draws_them_once(name):
    """Only the keys are drawn from torch's generator; the layers draw nothing."""
    model, x = shrunk(name, drop_rate=0.5, stochastic_depth_rate=0.5), images(6)
    torch.manual_seed(3)
    keys = torch.randint(2**32, (6,))
    after = torch.get_rng_state()
    torch.manual_seed(3)
    first, state = model(x), torch.get_rng_state()
    assert torch.equal(first, model(x, keys))
    assert torch.equal(state, after)
    assert not torch.equal(first, model(x))
    for method in (model.forward_features, model.feature_maps):
        torch.manual_seed(3)
        method(x)
        assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("rates", [{}, {"drop_rate": 0.5, "stochastic_depth_rate": 0.5}], ids=str)
def test_nothing_is_drawn_where_nothing_drops(rates):
    model = shrunk("nfnet_f0", **{"drop_rate": 0.0, "stochastic_depth_rate": 0.0, **rates})
    if rates:
        model.eval()
    state = torch.get_rng_state()
    model(images(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_monte_carlo_dropout_needs_keys():
    """Monte Carlo dropout puts a layer into training mode; it still needs keys."""
    model = shrunk("nfnet_f0", drop_rate=0.5).eval()
    model.dropout.train()
    with pytest.raises(UserError, match="need keys in training"):
        model(images(6))
    assert not torch.equal(model(images(6), KEYS), model(images(6), KEYS + 1))


@pytest.mark.parametrize("stem", ["conv", "dct"])
def test_the_first_convolution_is_one_that_learns(stem):
    model = shrunk("nfnet_f0", stem=stem)
    learned = [n for n, p in model.named_parameters() if p.requires_grad and p.ndim == 4]
    assert model.first_conv == learned[0].removesuffix(".weight")
    model.freeze(2)
    assert model.first_conv == learned[0].removesuffix(".weight")
    model.freeze(0)
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.ndim == 4] == learned


@pytest.mark.parametrize("name", FAMILIES)
def test_exact_gains_reach_every_activation(name):
    reference, exact = (shrunk(name, gain=gain) for gain in ("reference", "exact"))
    ours = reference.config.activation
    want = {"reference": ACTIVATIONS[ours].gain, "exact": ScaledActivation(ours, "exact").gain}
    for model, gain in ((reference, want["reference"]), (exact, want["exact"])):
        found = [m for m in model.modules() if isinstance(m, ScaledActivation) if m.name == ours]
        gates = [m.act for m in model.modules() if isinstance(m, SqueezeExcite)]
        gains = {m.gain for m in found if m not in gates}
        assert gains == ({gain} if name.startswith("nf") else {1.0})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_classifier_may_start_from_zero(name):
    torch.manual_seed(0)
    fields = {**FAMILIES[name], "num_classes": 5}
    zero = build_model(name, **fields, classifier_std=0)
    assert not zero.classifier.weight.any()
    zero.reset_classifier(7)
    assert not zero.classifier.weight.any()
    other = build_model(name, **fields, classifier_std=0.5)
    assert other.classifier.weight.std().item() == pytest.approx(0.5, rel=0.3)
