"""What every image classifier here offers, whatever its family."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Self

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from normfree.errors import UserError, unknown_name
from normfree.fields import check_types
from normfree.nn import ACTIVATIONS, Dropout, Normalization


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """What every family's configuration has.

    Args:
        name: the variant it is, or started from.
        widths: output channels of each stage.
        depths: blocks of each stage.
        activation: a name of :data:`normfree.nn.ACTIVATIONS`.
        drop_rate: dropout before the classifier.
        stochastic_depth_rate: the rate that the last block nearly reaches.
        in_channels: channels of the images.
        num_classes: classes; 0 for pooled features instead of logits.
        train_size: side of the training images, pixels.
        test_size: side of the test images, pixels.
        normalization: ``"none"``; ``"batch"`` makes the batch-normalized twin of a family.
        randaugment_magnitude: strength of RandAugment in the paper's recipe.
        activation_checkpointing: ``"block"`` keeps only the input of each block for the backward
            pass and computes the rest again: less memory, about a third more time.

    Raises:
        UserError: values that no network can have.
    """

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    activation: str
    drop_rate: float
    stochastic_depth_rate: float
    in_channels: int = 3
    num_classes: int = 1000
    train_size: int
    test_size: int
    randaugment_magnitude: int = 0
    normalization: Normalization = "none"
    activation_checkpointing: Literal["none", "block"] = "none"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # JSON and YAML bring lists
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        check_types(self)
        self.check_stages("widths", "depths")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        if self.activation == "glu":
            raise UserError("activation 'glu' halves the channels; no network here can use it")
        for name in ("drop_rate", "stochastic_depth_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be in [0, 1); got {getattr(self, name)}")
        self.check_choice("activation_checkpointing", "none", "block")
        self.check_choice("normalization", "none", "batch")
        if self.num_classes < 0 or self.in_channels < 1:
            raise UserError(
                "num_classes must not be negative and in_channels at least 1; "
                f"got {self.num_classes} and {self.in_channels}"
            )
        if min(self.train_size, self.test_size) < 1:
            raise UserError(
                f"train_size and test_size must be positive; got {self.train_size} "
                f"and {self.test_size}"
            )

    def check_choice(self, field: str, *choices: str) -> None:
        """This field is one of these words."""
        value = getattr(self, field)
        if value not in choices:
            raise UserError(f"{field} must be {' or '.join(map(repr, choices))}; got {value!r}")

    def check_stages(self, *fields: str) -> None:
        """Each of these fields has one positive number for each of the four stages."""
        for field in fields:
            value = getattr(self, field)
            if len(value) != 4 or min(value) <= 0:
                raise UserError(f"{field} must be four positive numbers, one a stage; got {value}")


def new_classifier(
    in_features: int, num_classes: int, std: float = 0.01, **on: Any
) -> nn.Linear | nn.Identity:
    """The last linear layer, N(0, std²) with zero biases; with no classes, the identity.

    >>> new_classifier(8, 0)
    Identity()
    """
    if num_classes == 0:
        return nn.Identity()
    linear = nn.Linear(in_features, num_classes, **on)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear


class ImageClassifier(nn.Module):
    """Stem → four stages of residual blocks → head → mean → dropout → classifier.

    A family builds ``stem``, ``stages`` (four lists of blocks, each of which takes an input and
    keys) and ``head`` (from the last stage to the feature map that is averaged), and then calls
    :meth:`finish`.
    """

    config: Any
    num_features: int
    stem: nn.Module
    stages: nn.ModuleList
    head: nn.Module
    dropout: Dropout
    classifier: nn.Linear | nn.Identity
    classifier_std = 0.01
    frozen_stages = 0

    def finish(self, num_features: int, **on: Any) -> None:
        """Add dropout and the classifier."""
        self.num_features = num_features
        self.dropout = Dropout(self.config.drop_rate, stream=sum(self.config.depths))
        self.classifier = new_classifier(
            num_features, self.config.num_classes, self.classifier_std, **on
        )

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
        recompute = self.config.activation_checkpointing == "block" and self.training
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = _recomputed(block, x, keys) if recompute else block(x, keys)
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
            self.num_features,
            num_classes,
            self.classifier_std,
            device=weight.device,
            dtype=weight.dtype,
        )

    def freeze(self, stages: int) -> None:
        """Keep the stem and the first stages as they are in training; free the rest.

        Frozen parts compute as in evaluation: no mask is drawn in them, no statistics move.

        Args:
            stages: how many, from 0 (nothing is frozen, not even the stem) to 4.

        Raises:
            UserError: no such number of stages.
        """
        if not 0 <= stages <= len(self.stages):
            raise UserError(f"stages to freeze must be 0 to {len(self.stages)}; got {stages}")
        self.frozen_stages = stages
        self.requires_grad_(True)
        for part in self._frozen():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, but for what is frozen."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        return [self.stem, *self.stages[: self.frozen_stages]] if self.frozen_stages else []


def _recomputed(block: nn.Module, x: Tensor, keys: Tensor | None) -> Tensor:
    """A block whose inner activations are computed again in the backward pass."""
    contexts = lambda: (nullcontext(), _statistics_kept(block))  # noqa: E731
    return checkpoint(block, x, keys, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch statistics are used but not gathered: the first pass has done so."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in before:
        assert count is not None
        norm.momentum, norm.num_batches_tracked = 0.0, count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
