"""The base class of all image classifiers."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models.checkpointing import recomputed
from normfree.models.places import Place, build_stages, places
from normfree.nn import BlockSpec, Dropout, Layers, NFBlock, ResidualBlock
from normfree.nn.conv import FixedConv2d


class ImageClassifier(nn.Module):
    """Stem → four stages of residual blocks → head → mean → dropout → classifier.

    A family defines its stem, blocks and head; this class implements everything else.

    Args:
        config: configuration of the network.
        device: device of the parameters; ``"meta"`` allocates no memory.
        dtype: data type of the parameters.
    """

    config: Any
    frozen_stages = 0

    def __init__(
        self,
        config: Any,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        layers = Layers(
            normalization=config.normalization,
            activation=config.activation,
            gain=config.gain,
            padding=config.padding,
            device=device,
            dtype=dtype,
        )
        self.stem, channels = self.build_stem(layers)
        where = places(config.depths, config.alpha, config.stochastic_depth_rate, config.beta_place)
        self.stages, channels = build_stages(
            where, channels, lambda place, channels: self.build_block(place, channels, layers)
        )
        self.head, self.num_features = self.build_head(channels, layers)
        self.dropout = Dropout(config.drop_rate, stream=len(where))
        self.classifier = self._new_classifier(device=device, dtype=dtype)

    def build_stem(self, layers: Layers) -> tuple[nn.Module, int]:
        """Build the layers before the first block; return them and their output channels."""
        raise NotImplementedError

    def block_spec(self, place: Place, in_channels: int) -> BlockSpec:
        """The configuration of the block at a position."""
        raise NotImplementedError

    def build_block(self, place: Place, in_channels: int, layers: Layers) -> ResidualBlock:
        """Build the block at a position: a bottleneck unless a family overrides it."""
        spec: Any = self.block_spec(place, in_channels)
        return NFBlock(spec, place.residual, layers)

    def build_head(self, channels: int, layers: Layers) -> tuple[nn.Module, int]:
        """Build the layers after the last block; return them and their output channels."""
        raise NotImplementedError

    def feature_maps(
        self, x: Float[Tensor, "n c h w"], keys: Int[Tensor, " n"] | None = None
    ) -> list[Float[Tensor, "n _c _h _w"]]:
        """The output of each of the four stages, for detection or segmentation.

        Args:
            x: normalized images.
            keys: one key per example for stochastic depth; see :meth:`forward`.

        Returns:
            Four feature maps, with strides 4, 8, 16 and 32 for the default stem.
        """
        keys = self._keys(x, keys)
        recompute = self.config.activation_checkpointing == "block" and self.training
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = recomputed(block, x, keys) if recompute else block(x, keys)
            maps.append(x)
        return maps

    def forward_features(
        self, x: Float[Tensor, "n c h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n f _h _w"]:
        """The last feature map, after the final activation and before the spatial mean.

        Args:
            x: normalized images.
            keys: one key per example for stochastic depth; see :meth:`forward`.
        """
        return self.head(self.feature_maps(x, keys)[-1])

    def forward(
        self, x: Float[Tensor, "n c h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n classes"]:
        """Logits of a batch of images.

        Args:
            x: normalized images.
            keys: one key per example (see :mod:`normfree.random`), which determines the masks of
                dropout and stochastic depth. In training mode, None draws the keys, and nothing
                else, from torch's default generator, which :func:`torch.manual_seed` seeds.

        Returns:
            Logits, or pooled features if the model has no classes.
        """
        keys = self._keys(x, keys)
        pooled = self.forward_features(x, keys).mean(dim=(2, 3))
        return self.classifier(self.dropout(pooled, keys))

    def _keys(self, x: Tensor, keys: Tensor | None) -> Tensor | None:
        """The keys of a batch, drawn if they are needed but not given."""
        drops = self.config.drop_rate > 0 or self.config.stochastic_depth_rate > 0
        if keys is None and self.training and drops:
            return torch.randint(2**32, (x.shape[0],), device=x.device)
        return keys

    @property
    def first_conv(self) -> str:
        """The name of the first trainable convolution, which may follow a fixed transform.

        >>> from normfree.models import build_model
        >>> build_model("nfnet_pico").first_conv, build_model("nfnet_pico", stem="dct").first_conv
        ('stem.conv0', 'stem.conv')
        """
        return next(
            name
            for name, module in self.named_modules()
            if isinstance(module, nn.Conv2d) and not isinstance(module, FixedConv2d)
        )

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier with a newly initialized one.

        Args:
            num_classes: number of classes of the new task; 0 returns the pooled features.
        """
        weight = next(self.parameters())
        self.config = dataclasses.replace(self.config, num_classes=num_classes)
        self.classifier = self._new_classifier(device=weight.device, dtype=weight.dtype)

    def _new_classifier(self, **on: Any) -> nn.Linear | nn.Identity:
        """A linear layer, N(0, std²) with zero biases, or the identity if there are no classes."""
        if self.config.num_classes == 0:
            return nn.Identity()
        linear = nn.Linear(self.num_features, self.config.num_classes, **on)
        nn.init.normal_(linear.weight, std=self.config.classifier_std)
        nn.init.zeros_(linear.bias)
        return linear

    def freeze(self, stages: int) -> None:
        """Freeze the stem and the first stages during training, and unfreeze the rest.

        Frozen modules stay in evaluation mode: they drop nothing and update no statistics.

        Args:
            stages: number of stages, from 0 (nothing is frozen, not even the stem) to 4.

        Raises:
            UserError: the number of stages is out of range.
        """
        if not 0 <= stages <= len(self.stages):
            raise UserError(f"stages to freeze must be 0 to {len(self.stages)}; got {stages}")
        self.frozen_stages = stages
        self.requires_grad_(True)
        fixed = [module for module in self.modules() if isinstance(module, FixedConv2d)]
        for part in [*self._frozen(), *fixed]:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, except for frozen modules."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        return [self.stem, *self.stages[: self.frozen_stages]] if self.frozen_stages else []


def expansion_head(channels: int, features: int, layers: Layers) -> nn.Sequential:
    """A 1×1 convolution to the features that are averaged, followed by an activation."""
    head = nn.Sequential()
    head.add_module("conv", layers.conv(channels, features, 1))
    head.add_module("act", layers.act(features))
    return head
