"""Parameter and multiply-add counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.models import ImageClassifier
from normfree.nn import SqueezeExcite
from normfree.nn.channel_attention import EfficientChannelAttention

_ONCE: Mapping[nn.Module, int] = MappingProxyType({})


def count_parameters(model: nn.Module) -> int:
    """Number of learnable scalars.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: ImageClassifier, size: int) -> int:
    r"""Multiply-adds of the convolutions and linear layers for one image.

    .. math:: \sum_{\text{layers}} h_{out}\, w_{out}\, |W|

    where :math:`|W|` is the number of weights. A linear layer, including those in
    squeeze-and-excite, counts once per image.

    Args:
        model: any registered network, on any device; only shapes are used.
        size: side of the image, pixels.

    Returns:
        Multiply-adds. The paper calls them FLOPs and reports them at the test size.

    Example:
        >>> import normfree
        >>> macs = count_macs(normfree.create_model("nfnet_f0", device="meta"), size=256)
        >>> f"{macs / 1e9:.2f}B"
        '12.38B'

    Source: table 3 of the paper.

    Differs from: the authors' ``count_flops``, which does not round a layer's size to an integer.
    It is up to 5 % off if sizes do not halve evenly (NF-RegNets), and up to four times for
    NF-ResNets.
    """
    config = model.config
    # After the first block, all blocks of a stage are equal, so the second represents the rest.
    shallow = tuple(min(depth, 2) for depth in config.depths)
    network = type(model)(dataclasses.replace(config, depths=shallow), device="meta").eval()
    times = {
        layer: config.depths[stage] - 1
        for stage, blocks in enumerate(network.stages)
        for block in list(blocks)[1:]  # type: ignore[call-overload]
        for layer in block.modules()
    }
    return layer_macs(network, torch.empty(1, config.in_channels, size, size, device="meta"), times)


def layer_macs(
    network: nn.Module, images: Float[Tensor, "n c h w"], times: Mapping[nn.Module, int] = _ONCE
) -> int:
    """Multiply-adds of the convolutions and linear layers in one forward pass.

    Args:
        network: any network; it is run once, in the mode that it is in.
        images: its input; the count grows with the number of images.
        times: layer → how often it counts; 1 if it is not listed.

    Example:
        >>> layer_macs(nn.Conv2d(3, 8, 3, padding=1), torch.empty(2, 3, 4, 4))  # 2 · 16 · 216
        6912
    """
    total = 0

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            macs = layer.weight.numel() * output.shape[0] * output.shape[2] * output.shape[3]
        elif isinstance(layer, SqueezeExcite):
            macs = (layer.fc0.weight.numel() + layer.fc1.weight.numel()) * output.shape[0]
        elif isinstance(layer, EfficientChannelAttention):
            macs = layer.weight.numel() * output.shape[:2].numel()
        elif isinstance(layer, nn.Linear):
            macs = layer.weight.numel() * output.shape[:-1].numel()
        else:
            return
        total += macs * times.get(layer, 1)

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def training_flops(macs: int) -> int:
    r"""Floating-point operations of a training step, from the multiply-adds of its forward pass.

    .. math:: 2 \cdot 3\,\text{macs}

    A multiply-add is two operations. The backward pass multiplies by each weight twice: for the
    gradient of the input and for that of the weight. What is not a convolution or a linear layer
    does not count, nor does recomputation; the gradient of the images, which nobody needs, does
    (1 % of NFNet-F0).

    >>> training_flops(12_384_198_656)
    74305191936
    """
    return 6 * macs
