"""Per-example gradients are exact without normalization; ε and averages are what they should be."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

import normfree
from tests.examples.load import example

private, federated = example("differential_privacy"), example("federated")
IMAGES, LABELS = torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.arange(6)


def network(normalization: str = "none", **fields):
    torch.manual_seed(0)
    return normfree.create_model(
        "nfnet_pico", num_classes=10, in_channels=1, drop_rate=0.0, stochastic_depth_rate=0.0,
        normalization=normalization, **fields,
    ).double()  # fmt: skip


def gradients(model, images, labels, **reduction):
    """By a plain backward pass, as ``loss.backward()`` of any loop."""
    names, params = zip(*model.named_parameters(), strict=True)
    loss = cross_entropy(model(images), labels, **reduction)
    found = torch.autograd.grad(loss, params, allow_unused=True)
    return {
        name: torch.zeros_like(param) if g is None else g
        for name, param, g in zip(names, params, found, strict=True)
    }


def assert_equal(one, other, tolerance=1e-10):
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance, msg=name)


def test_gradients_by_image_are_those_of_runs_with_one_image():
    model = network()
    with torch.no_grad():
        for name, param in model.named_parameters():
            if name.endswith("skip_gain"):
                param.fill_(0.5)  # zero at initialization: the branches would have no gradient
    together = private.per_example_gradients(model, IMAGES, LABELS)
    for i in range(len(IMAGES)):
        alone = gradients(model, IMAGES[i : i + 1], LABELS[i : i + 1])
        assert any(g.abs().max() > 1e-3 for g in alone.values())
        assert_equal({name: g[i] for name, g in together.items()}, alone)
    mean = {name: g.mean(dim=0) for name, g in together.items()}
    assert_equal(mean, gradients(model, IMAGES, LABELS))


def test_in_float32_the_kernels_give_the_same():
    model = network().float()
    together = private.per_example_gradients(model, IMAGES.float(), LABELS)
    alone = gradients(model, IMAGES[2:3].float(), LABELS[2:3])
    assert_equal({name: g[2] for name, g in together.items()}, alone, tolerance=1e-5)


def test_with_dropout_an_image_needs_a_key():
    """As the page says: keys are a further argument of the loss."""
    model = network().float()
    model.dropout.rate = 0.5
    params = {name: param.detach() for name, param in model.named_parameters()}
    keys = torch.arange(6) * 77

    def loss(params, image, label, key):
        logits = torch.func.functional_call(model, params, (image[None], key[None]))
        return cross_entropy(logits, label[None])

    every = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))
    together = every(params, IMAGES.float(), LABELS, keys)
    logits = model(IMAGES[1:2].float(), keys[1:2])
    (alone,) = torch.autograd.grad(cross_entropy(logits, LABELS[1:2]), model.classifier.weight)
    torch.testing.assert_close(together["classifier.weight"][1], alone)


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_only_batch_normalization_lets_other_images_in(normalization):
    """The gradient of the loss of image 0, beside one neighbor and beside another."""
    model = network(normalization, stem_stride=1)
    pairs = [IMAGES[[0, other]] for other in (1, 2)]
    first, second = (
        torch.autograd.grad(cross_entropy(model(x)[:1], LABELS[:1]), model.classifier.weight)[0]
        for x in pairs
    )
    assert torch.allclose(first, second, rtol=1e-10) == (normalization == "none")


def test_a_batch_of_one_is_no_batch_to_normalize():
    assert network().train()(IMAGES[:1]).shape == (1, 10)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network("batch").train()(IMAGES[:1])


def test_an_image_moves_the_sum_by_no_more_than_the_bound():
    gradients_ = private.per_example_gradients(network(), IMAGES, LABELS)
    generator = torch.Generator().manual_seed(0)
    total = private.private_sum(gradients_, 0.01, 0.0, generator)
    without = private.private_sum({n: g[1:] for n, g in gradients_.items()}, 0.01, 0.0, generator)
    moved = sum((total[n] - without[n]).square().sum() for n in total) ** 0.5
    assert moved == pytest.approx(0.01)  # its gradient is longer, so it moves the sum by the bound
    loose = private.private_sum(gradients_, 1e9, 0.0, generator)
    assert_equal(loose, gradients(network(), IMAGES, LABELS, reduction="sum"))


def test_the_noise_has_the_deviation_that_the_accountant_is_told():
    nothing = {"w": torch.zeros(3, 100_000)}
    noise = private.private_sum(nothing, 0.5, 4.0, torch.Generator().manual_seed(0))["w"]
    assert noise.std() == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize(
    ("order", "noise", "share"), [(2, 1.0, 0.1), (7, 2.0, 0.25), (32, 4, 0.01)]
)
def test_the_divergence_is_that_of_the_two_densities(order, noise, share):
    x = torch.linspace(-20 * noise, order + 20 * noise, 400_001, dtype=torch.float64)
    without = (-(x**2) / (2 * noise**2)).exp() / (noise * math.sqrt(2 * math.pi))
    ratio = (1 - share) + share * ((2 * x - 1) / (2 * noise**2)).exp()
    integral = torch.trapezoid(without * ratio**order, x)
    assert private.renyi(order, noise, share) == pytest.approx(math.log(integral) / (order - 1))


#: Noise, sampling probability, epochs, δ and the ε published for them: Abadi et al. (2016);
#: TensorFlow Privacy's tutorial on MNIST, which also tries orders between integers.
PUBLISHED = [
    (4.0, 0.01, 100, 1e-5, 1.26),
    (1.3, 256 / 60_000, 15, 1e-5, 1.19),
    (1.1, 256 / 60_000, 60, 1e-5, 3.01),
    (0.7, 256 / 60_000, 45, 1e-5, 7.10),
]


@pytest.mark.parametrize(("noise", "share", "epochs", "delta", "published"), PUBLISHED)
def test_epsilon_beside_published_ones(noise, share, epochs, delta, published):
    """They are by an older bound from divergences to ε; today's is tighter."""
    settings = private.Settings(noise=noise, share=share, epochs=epochs, delta=delta)
    older = min(
        settings.steps * private.renyi(order, noise, share) - math.log(delta) / (order - 1)
        for order in range(2, 257)
    )
    assert older == pytest.approx(published, rel=0.005)
    assert 0.75 * older < private.epsilon(settings) < older


def test_a_step_on_all_images_is_the_gaussian_mechanism():
    """Its divergence is α / 2σ²; sampling can only lower it."""
    for order in (2, 5, 64):
        assert private.renyi(order, 2.0, 1 - 1e-12) == pytest.approx(order / 8, rel=1e-6)
        assert private.renyi(order, 2.0, 0.25) < order / 8


def test_more_noise_or_fewer_steps_cost_less_privacy():
    base = private.Settings()
    assert private.epsilon(private.Settings(noise=4.0)) < private.epsilon(base)
    assert private.epsilon(private.Settings(epochs=5)) < private.epsilon(base)
    assert private.epsilon(private.Settings(noise=0.0)) == math.inf


def test_one_step_of_all_clients_is_a_step_on_all_images():
    """Each takes its whole shard as one batch; exact, as no client has statistics of its own."""
    settings = federated.Settings(
        clients=3, chosen=3, rounds=1, batch_size=100, lr=0.1, clipping=0.0
    )
    images, labels = torch.randn(25, 1, 8, 8, dtype=torch.float64), torch.arange(25) % 10
    model, whole = network(), network()
    (chosen,) = federated.federate(model, images, labels, settings)
    assert sorted(chosen) == [0, 1, 2]
    step = gradients(whole, images, labels)
    expected = {name: p - 0.1 * step[name] for name, p in whole.named_parameters()}
    assert_equal(expected, dict(model.named_parameters()))


def test_clients_hold_every_image_once_and_few_classes():
    _, labels = federated.digits("train")
    held = federated.shards(labels, 20, torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(held).sort().values, torch.arange(len(labels)))
    assert max(len(labels[indices].unique()) for indices in held) <= 4
