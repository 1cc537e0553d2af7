"""Initial gains from data: convolutions whose outputs have unit variance on real images."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.nn.conv import WSConv2d
from normfree.nn.modes import evaluating

_LEAST = 1e-6  # a smaller deviation is that of a constant, and says nothing


@torch.no_grad()
def calibrate_gains(model: nn.Module, images: Float[Tensor, "n c h w"]) -> None:
    r"""Scale the gains of weight-standardized convolutions, so that outputs have unit variance.

    .. math:: g \leftarrow g / \sigma, \qquad
        \sigma^2 = \operatorname{mean}_c \operatorname{Var}_{nhw}\, y_c

    for the output y of each convolution, in the order of computation. Scaled Weight Standardization
    preserves the variance of uncorrelated inputs. The pixels of images, and the features of a
    network, are correlated: a filter with zero mean cancels what they have in common, so the signal
    shrinks from layer to layer. This is done once, before training; the network stays free of
    batch statistics.

    Args:
        model: any network, changed in place.
        images: normalized, as in training.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> network = nn.Sequential(WSConv2d(1, 8, 3), WSConv2d(8, 8, 3))
        >>> smooth = torch.randn(16, 1, 1, 1) + 0.1 * torch.randn(16, 1, 8, 8)
        >>> before = network(smooth).std()
        >>> calibrate_gains(network, smooth)
        >>> bool(before < 0.7), bool(abs(network(smooth).var(dim=(0, 2, 3)).mean() - 1) < 0.01)
        (True, True)

    Source: layer-sequential unit variance, Mishkin & Matas (2016); not in the paper.
    """
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for module in model.modules():
            if isinstance(module, WSConv2d):
                stack.enter_context(module.register_forward_hook(_calibrate))
        model(images)


def _calibrate(conv: nn.Module, _: object, y: Tensor) -> Tensor:
    """Divide the gains of a convolution by the deviation of its output; return the new output."""
    assert isinstance(conv, WSConv2d)
    sigma = y.float().var(dim=(0, 2, 3), correction=0).mean().sqrt()
    bias = 0 if conv.bias is None else conv.bias.view(1, -1, 1, 1)
    if not _LEAST < sigma < float("inf"):
        return y
    conv.gain.div_(sigma)
    return (y - bias) / sigma + bias
