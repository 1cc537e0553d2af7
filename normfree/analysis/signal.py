"""Signal propagation: the variance after every block, beside the one the network was built for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models import ImageClassifier
from normfree.nn import ResidualBlock
from normfree.nn.modes import evaluating


class BlockSignal(NamedTuple):
    """What leaves one residual block.

    Args:
        name: of the block in the model.
        expected: the variance that β takes for granted in a normalizer-free network: 1 + α² after
            a transition block, the input's plus α² after a plain one.
        variance: measured, over examples and space, then averaged over channels.
        mean_square: the square of a channel's mean, averaged over channels.
        branch_variance: of the residual branch before the SkipInit gain and α; one is meant.
    """

    name: str
    expected: float
    variance: float
    mean_square: float
    branch_variance: float


@torch.no_grad()
def signal_propagation(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    *,
    skip_gain: float | None = None,
) -> list[BlockSignal]:
    r"""Measure the signal after every residual block, in evaluation mode.

    .. math:: \frac1C \sum_c \mathrm{Var}_{n,h,w}\, x_{nchw}
        \qquad\text{against}\qquad \mathrm{Var}_{l+1} = \mathrm{Var}_l + \alpha^2

    Args:
        model: any network of :class:`normfree.nn.ResidualBlock`; left as it was, its mode and gains
            included.
        images: what to feed it; :func:`tiled_noise` meets the assumptions of the analytic sequence.
        skip_gain: value of every SkipInit gain while measuring: 1 shows the branches, which at
            initialization are switched off. None measures with the model's own.

    Returns:
        One signal a block, in the order in which they run.

    Raises:
        UserError: the model has no such block.

    Example:
        >>> import normfree
        >>> model = normfree.create_model("nfnet_pico")
        >>> signals = signal_propagation(model, torch.randn(8, 3, 8, 8), skip_gain=1)
        >>> [round(signal.expected, 2) for signal in signals]
        [1.04, 1.04, 1.04, 1.08, 1.04]

    Source: the signal propagation plots of Brock et al., 2021a, section 3.
    """
    blocks = {name: m for name, m in model.named_modules() if isinstance(m, ResidualBlock)}
    if not blocks:
        raise UserError(f"{type(model).__name__} has no ResidualBlock to measure")
    outputs: dict[str, tuple[float, float]] = {}
    branches: dict[str, tuple[float, float]] = {}
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        if skip_gain is not None:
            stack.enter_context(_skip_gains(blocks.values(), skip_gain))
        for name, block in blocks.items():
            # Whatever a family's branch is made of, stochastic depth is what it goes through last.
            hooks = (
                block.register_forward_hook(_recorder(outputs, name)),
                block.stochastic_depth.register_forward_hook(_recorder(branches, name)),
            )
            for hook in hooks:
                stack.callback(hook.remove)
        model(images)
    return [
        BlockSignal(
            name=name,
            expected=expected_variance(blocks[name]),
            variance=variance,
            mean_square=mean_square,
            branch_variance=branches[name][0],
        )
        for name, (variance, mean_square) in outputs.items()
    ]


@torch.no_grad()
def tiled_noise(
    model: ImageClassifier, count: int, size: int, generator: torch.Generator | None = None
) -> Float[Tensor, "n c h w"]:
    r"""Images for which the analytic sequence is meant to hold.

    Each image is one tile of normal noise, as wide as the stem's stride, repeated over the image;
    all are scaled together so that the stem's output has unit variance, where the sequence starts.

    Why no plain noise? Because the sequence leaves out the mean pooling in the skip paths. The mean
    of four independent pixels has a quarter of their variance: fed with white noise, F0 loses about
    that factor in each of its three strided transitions (ratios of 0.97, 0.27, 0.06, 0.01 to the
    sequence after its stages). Feature maps of repeated tiles are constant in space, but for the
    border, so pooling leaves them as they are; and within a filter's window the pixels are as
    independent as those of white noise, where images of a single color would lose variance to
    filters of zero mean.

    Args:
        model: gives the stem, the number of channels and where to make the images.
        count: number of images. A channel's variance comes from this many independent values.
        size: side, a multiple of the stem's stride. The zeros that pad a convolution take variance
            away along the border, so small images stay below the sequence.
        generator: of the noise; None for torch's own.

    Example:
        >>> import normfree
        >>> model = normfree.create_model("nfnet_micro")
        >>> images = tiled_noise(model, count=16, size=32)
        >>> torch.equal(images[:, :, :2, :2], images[:, :, 4:6, 8:10])
        True
        >>> round(model.stem(images).var(dim=(0, 2, 3)).mean().item(), 2)
        1.0
    """
    weight = next(model.parameters())
    channels = model.config.in_channels
    stride = size // model.stem(weight.new_zeros(1, channels, size, size)).shape[3]
    tile = torch.randn(count, channels, stride, stride, generator=generator).to(weight)
    images = tile.repeat(1, 1, size // stride, size // stride)
    for _ in range(3):  # the stem is not quite linear: variance follows scale², nearly
        images = images * _moments(model.stem(images))[0] ** -0.5
    return images


def expected_variance(block: ResidualBlock) -> float:
    """The variance after a block at initialization, with a SkipInit gain of one.

    >>> from normfree.nn import BottleneckSpec, NFBlock, Residual
    >>> spec = BottleneckSpec(in_channels=8, out_channels=8, width=8)
    >>> expected_variance(NFBlock(spec, Residual(alpha=0.2, beta=1.04**-0.5)))
    1.08
    """
    skip = block.beta**-2 if block.shortcut is None else 1.0
    return round(skip + block.alpha**2, 12)


def _moments(x: Float[Tensor, "n c h w"]) -> tuple[float, float]:
    """Variance and squared mean of a channel, averaged over channels."""
    var, mean = torch.var_mean(x.float(), dim=(0, 2, 3))
    return var.mean().item(), mean.square().mean().item()


def _recorder(
    into: dict[str, tuple[float, float]], name: str
) -> Callable[[nn.Module, object, Tensor], None]:
    def record(module: nn.Module, args: object, output: Tensor) -> None:
        into[name] = _moments(output)

    return record


@contextmanager
def _skip_gains(blocks: Iterable[ResidualBlock], value: float) -> Iterator[None]:
    """Another SkipInit gain in every block, then each block's own again."""
    gains = [block.skip_gain for block in blocks if block.skip_gain is not None]
    own = [gain.clone() for gain in gains]
    for gain in gains:
        gain.fill_(value)
    try:
        yield
    finally:
        for gain, before in zip(gains, own, strict=True):
            gain.copy_(before)
