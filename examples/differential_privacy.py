"""Train with differential privacy (DP-SGD), and say what it guarantees.

    pip install 'normfree[demo]'
    python examples/differential_privacy.py --noise 2 --epochs 20

A step sees each image with a probability, clips the gradient of each to a norm, and adds noise to
their sum, so no single image can move the weights by much. Without normalization over the batch,
the gradient of an image is that of the image alone, which is what the guarantee is about.

Source: algorithm 1 of Abadi et al., *Deep Learning with Differential Privacy* (2016); the guarantee
by Mironov et al., *Rényi Differential Privacy of the Sampled Gaussian Mechanism* (2019), section
3.3, and Balle et al., *Hypothesis Testing Interpretations and Rényi Differential Privacy* (2020).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

import normfree
from normfree.data import open_source
from normfree.optim import AGCSGD, param_groups, warmup_cosine


@dataclass(frozen=True)
class Settings:
    """Settings of a private run."""

    noise: float = 2.0  # standard deviation of the noise, in units of the bound
    bound: float = 1.0  # largest norm of the gradient of an image
    share: float = 0.25  # probability that a step sees an image
    epochs: float = 20.0
    lr: float = 0.5
    delta: float = 1e-4  # less than one over the number of images
    seed: int = 0

    @property
    def steps(self) -> int:
        """Number of steps: an epoch sees every image once on average."""
        return max(1, round(self.epochs / self.share))


def per_example_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradient of each image's own loss: name of a parameter → (n, *its shape)."""

    def loss(params: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, params, (image[None],)), label[None])

    params = {name: param.detach() for name, param in model.named_parameters()}
    return vmap(grad(loss), in_dims=(None, 0, 0))(params, images, labels)


def private_sum(
    gradients: dict[str, Tensor], bound: float, noise: float, generator: torch.Generator
) -> dict[str, Tensor]:
    r""":math:`\sum_i g_i \min(1, C / \|g_i\|) + \sigma C \xi`, the norm over all parameters."""
    norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in gradients.values()])
    scales = (bound / norms.norm(dim=0)).clamp(max=1)
    return {
        name: torch.tensordot(scales, g, dims=1)
        + noise * bound * torch.randn(g.shape[1:], generator=generator)
        for name, g in gradients.items()
    }


def renyi(order: int, noise: float, share: float) -> float:
    r"""Rényi divergence of one step with an image and one without it.

    .. math:: \frac{1}{\alpha - 1} \log \sum_{k=0}^{\alpha} \binom{\alpha}{k}
        (1 - q)^{\alpha - k} q^k e^{(k^2 - k) / 2 \sigma^2}
    """
    terms = torch.tensor(
        [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + (order - k) * math.log1p(-share) + k * math.log(share) + (k * k - k) / (2 * noise**2)
            for k in range(order + 1)
        ],
        dtype=torch.float64,
    )  # fmt: skip
    return torch.logsumexp(terms, dim=0).item() / (order - 1)


def epsilon(settings: Settings) -> float:
    r"""The privacy loss of the run at its δ: the least over integer orders.

    .. math:: T\,\mathrm{R}(\alpha) + \log(1 - 1/\alpha) - (\log\delta + \log\alpha)/(\alpha - 1)
    """
    if settings.noise == 0:
        return math.inf
    return min(
        settings.steps * renyi(order, settings.noise, settings.share)
        + math.log1p(-1 / order) - math.log(settings.delta * order) / (order - 1)
        for order in range(2, 257)
    )  # fmt: skip


def train(model: nn.Module, images: Tensor, labels: Tensor, settings: Settings) -> Iterator[int]:
    """Train in place; yield after each step."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = AGCSGD(param_groups(model, weight_decay=0.0, clipping=None), momentum=0.9)
    expected = settings.share * len(images)  # the true size of a batch would tell who is in it
    for step in range(settings.steps):
        chosen = torch.rand(len(images), generator=generator) < settings.share
        gradients = per_example_gradients(model, images[chosen], labels[chosen])
        total = private_sum(gradients, settings.bound, settings.noise, generator)
        for name, param in model.named_parameters():
            param.grad = total[name] / expected
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(
                step, peak=settings.lr, warmup_steps=settings.steps / 10, total_steps=settings.steps
            )
        optimizer.step()
        yield step


def digits(split: str) -> tuple[Tensor, Tensor]:
    """Real handwritten digits (n, 1, 8, 8), scaled by constants: a mean would tell of images."""
    source = open_source("digits", split)
    images = torch.stack([torch.from_numpy(source.image(i)) for i in range(len(source))])
    return (images.permute(0, 3, 1, 2).float() - 127.5) / 64, torch.as_tensor(source.labels)


def run(settings: Settings) -> dict[str, float | None]:
    """Train a small network privately; accuracy on images that were not trained on, and ε."""
    torch.manual_seed(settings.seed)
    model = normfree.create_model(
        "nfnet_pico", num_classes=10, in_channels=1, drop_rate=0.0, stochastic_depth_rate=0.0,
        widths=(16, 16, 32, 32), group_widths=(8, 8, 8, 8), depths=(1, 1, 1, 1),
    )  # fmt: skip
    for _ in train(model, *digits("train"), settings):
        pass
    images, labels = digits("val")
    with torch.no_grad():
        accuracy = (model.eval()(images).argmax(dim=1) == labels).double().mean().item()
    loss = epsilon(settings)
    return {"top1": round(accuracy, 4), "epsilon": round(loss, 3) if loss < math.inf else None}


def main() -> None:
    """Train with the settings of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for field in fields(Settings):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = vars(parser.parse_args())
    as_json = given.pop("json")
    settings = Settings(**given)
    found = run(settings)
    if as_json:
        print(json.dumps(asdict(settings) | found))
    else:
        loss = found["epsilon"]
        guarantee = "no guarantee" if loss is None else f"ε = {loss:.2f} at δ = {settings.delta:g}"
        print(f"{settings.steps} steps: top-1 {found['top1']:.1%}, {guarantee}")


if __name__ == "__main__":
    main()
