"""What every image classifier here offers, whatever its family."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

from normfree.nn import Dropout


class ClassifierConfig(Protocol):
    """The fields of a configuration that are common to all families."""

    name: str
    num_classes: int
    in_channels: int
    drop_rate: float
    train_size: int
    test_size: int


def new_classifier(in_features: int, num_classes: int, **on: Any) -> nn.Linear | nn.Identity:
    """The last linear layer, N(0, 0.01²) with zero biases; with no classes, the identity.

    >>> new_classifier(8, 0)
    Identity()
    """
    if num_classes == 0:
        return nn.Identity()
    linear = nn.Linear(in_features, num_classes, **on)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear


class ImageClassifier(nn.Module):
    """Stem → four stages of residual blocks → last convolution → mean → dropout → classifier.

    A family builds ``stem``, ``stages`` (four sequences of blocks that take an input and keys) and
    ``head`` (from the last stage to the feature map that is averaged), then calls
    :meth:`finish`.
    """

    config: Any
    num_features: int
    stem: nn.Module
    stages: nn.ModuleList
    head: nn.Module
    dropout: Dropout
    classifier: nn.Linear | nn.Identity

    def finish(self, num_features: int, num_blocks: int, **on: Any) -> None:
        """Add dropout and the classifier."""
        self.num_features = num_features
        self.dropout = Dropout(self.config.drop_rate, stream=num_blocks)
        self.classifier = new_classifier(num_features, self.config.num_classes, **on)

    def feature_maps(
        self, x: Float[Tensor, "n c h w"], keys: Int[Tensor, " n"] | None = None
    ) -> list[Float[Tensor, "n _c _h _w"]]:
        """The output of each of the four stages, for detection or segmentation.

        Args:
            x: images, normalised.
            keys: one key an example for stochastic depth; None draws from torch's generator.

        Returns:
            Four maps; with the usual stem their strides are 4, 8, 16 and 32.
        """
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, keys)
            maps.append(x)
        return maps

    def forward_features(
        self, x: Float[Tensor, "n c h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n f _h _w"]:
        """The last feature map, activated, before the mean over space.

        Args:
            x: images, normalised.
            keys: one key an example for stochastic depth; None draws from torch's generator.
        """
        return self.head(self.feature_maps(x, keys)[-1])

    def forward(
        self, x: Float[Tensor, "n c h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n classes"]:
        """Logits of a batch of images.

        Args:
            x: images, normalised.
            keys: one key an example (see :mod:`normfree.random`), so that the masks of dropout and
                stochastic depth follow the example; None draws them from torch's generator.

        Returns:
            Logits; the pooled features when the model has no classes.
        """
        pooled = self.forward_features(x, keys).mean(dim=(2, 3))
        return self.classifier(self.dropout(pooled, keys))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a new one.

        Args:
            num_classes: classes of the new task; 0 leaves the pooled features.
        """
        weight = next(self.parameters())
        self.config = dataclasses.replace(self.config, num_classes=num_classes)
        self.classifier = new_classifier(
            self.num_features, num_classes, device=weight.device, dtype=weight.dtype
        )


def beta_sequence(depths: tuple[int, ...], alpha: float) -> list[float]:
    r"""β of every block: one over the standard deviation of its input at initialisation.

    .. math:: \mathrm{Var}_{l+1} = \mathrm{Var}_l + \alpha^2, \qquad \beta_l = \mathrm{Var}_l^{-1/2}

    starting at one; the first block of a stage projects its normalised input, so after it the sum
    starts again from one. That block itself still sees what the stage before has summed up.

    >>> [round(beta, 4) for beta in beta_sequence((1, 3), alpha=0.2)]
    [1.0, 0.9806, 0.9806, 0.9623]

    Source: section 3 of the paper.
    """
    betas, variance = [], 1.0
    for depth in depths:
        for place in range(depth):
            betas.append(variance**-0.5)
            variance = (1.0 if place == 0 else variance) + alpha**2
    return betas


def stochastic_depth_sequence(blocks: int, rate: float) -> list[float]:
    """The rate of every block: ``rate · i / blocks``, so none in the first.

    >>> stochastic_depth_sequence(4, rate=0.5)
    [0.0, 0.125, 0.25, 0.375]

    Differs from: timm, which spaces the rates up to and including ``rate``.
    """
    return [rate * i / blocks for i in range(blocks)]
