"""Signal propagation: measured variance after each block, compared with the analytic value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.analysis.residual_adds import ResidualAdd, watched
from normfree.errors import UserError
from normfree.models import ImageClassifier
from normfree.nn import ResidualBlock
from normfree.nn.modes import evaluating

_GAINS = ("skip_gain", "skipinit_gain")  # SkipInit gains, as we and timm call them


class BlockSignal(NamedTuple):
    """Statistics of the output of one residual block.

    Args:
        name: name of the block in the model.
        expected: analytic variance that β is derived from: 1 + α² after a transition block, the
            input's variance plus α² after any other block; None where α and β are not known.
        variance: measured variance over examples and space, averaged over channels.
        mean_square: squared mean of each channel, averaged over channels.
        branch_variance: variance of the residual branch before the SkipInit gain and α, ideally 1;
            of a network that is not ours, with all its factors, as it is added.
    """

    name: str
    expected: float | None
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
        model: any residual network. In one without :class:`normfree.nn.ResidualBlock` modules, the
            additions are found while it runs. Its mode and gains are restored afterwards.
        images: input images; :func:`tiled_noise` satisfies the assumptions of the analytic values.
        skip_gain: value of every SkipInit gain during the measurement; 1 makes the branches
            visible, which are disabled at initialization. None uses the model's own gains.

    Returns:
        One signal per block, in execution order.

    Raises:
        UserError: the model has no residual block, and adds nothing that looks like one.

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
        return _of_any(model, images, skip_gain)
    outputs: dict[str, tuple[float, float]] = {}
    branches: dict[str, tuple[float, float]] = {}
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        if skip_gain is not None:
            stack.enter_context(_skip_gains(blocks.values(), skip_gain))
        for name, block in blocks.items():
            hook = block.register_forward_hook(_recorder(outputs, branches, name))
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
    r"""Images that satisfy the assumptions of the analytic variances.

    Each image repeats one tile of Gaussian noise whose side is the stem's stride. All images are
    scaled together so that the stem's output has unit variance, the starting point of the analytic
    sequence.

    White noise does not work, because the analytic sequence ignores the average pooling in the
    skip paths. The mean of four independent pixels has a quarter of their variance. With white
    noise, F0 loses about this factor in each of its three strided transitions (measured over
    analytic variance after the four stages: 0.97, 0.27, 0.06, 0.01). With repeated tiles, feature
    maps are constant in space, except near the border, so pooling does not change them. Within a
    filter's window the pixels are still as independent as in white noise. Images of a single color
    would lose variance, because the filters have zero mean.

    Args:
        model: provides the stem, the number of channels and the device.
        count: number of images, which is also the number of independent values per channel.
        size: side of the images, a multiple of the stem's stride, pixels. Zero padding reduces the
            variance near the border, so small images fall below the analytic sequence.
        generator: random generator for the noise; None uses torch's global generator.

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
    for _ in range(3):  # iterate, because the stem is not exactly linear
        images = images * _moments(model.stem(images))[0] ** -0.5
    return images


def expected_variance(block: ResidualBlock) -> float:
    """The analytic variance after a block at initialization, with a SkipInit gain of one.

    >>> from normfree.nn import BottleneckSpec, NFBlock, Residual
    >>> spec = BottleneckSpec(in_channels=8, out_channels=8, width=8)
    >>> expected_variance(NFBlock(spec, Residual(alpha=0.2, beta=1.04**-0.5)))
    1.08
    """
    skip = block.beta**-2 if block.shortcut is None else 1.0
    return round(skip + block.alpha**2, 12)


def _of_any(model: nn.Module, images: Tensor, skip_gain: float | None) -> list[BlockSignal]:
    """The signal after each residual addition of a network that knows nothing of this package."""
    found: list[BlockSignal] = []
    times: Counter[str] = Counter()

    def see(add: ResidualAdd) -> None:
        times[add.name] += 1
        number = f" #{times[add.name]}" if times[add.name] > 1 else ""
        variance, mean_square = _moments(add.output)
        expected = _known_variance(model.get_submodule(add.name))
        branch = _moments(add.branch)[0]
        found.append(BlockSignal(add.name + number, expected, variance, mean_square, branch))

    gains = [p for name, p in model.named_parameters() if name.endswith(_GAINS)]
    with evaluating(model), _set_gains(gains, skip_gain), watched(model, images, see):
        model(images)
    if not found:
        raise UserError(
            f"{type(model).__name__} has no ResidualBlock, and adds no two feature maps that lie "
            "behind different numbers of layers: there is no residual branch to measure"
        )
    return found


def _known_variance(block: nn.Module) -> float | None:
    """The analytic variance after a block that has α and β, as timm's have."""
    alpha, beta = getattr(block, "alpha", None), getattr(block, "beta", None)
    if not (isinstance(alpha, float) and isinstance(beta, float) and beta > 0):
        return None
    transition = getattr(block, "downsample", None) is not None
    return round((1.0 if transition else beta**-2) + alpha**2, 12)


def _moments(x: Float[Tensor, "n c h w"]) -> tuple[float, float]:
    """Variance and squared mean of each channel, averaged over channels."""
    dims = (0, *range(2, x.ndim))
    var, mean = torch.var_mean(x.float(), dim=dims)
    return var.mean().item(), mean.square().mean().item()


def _recorder(
    outputs: dict[str, tuple[float, float]], branches: dict[str, tuple[float, float]], name: str
) -> Callable[[ResidualBlock, tuple[Tensor, ...], Tensor], None]:
    """A hook that records the moments of a block's output, and of its branch, computed again."""

    def record(block: ResidualBlock, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[name] = _moments(output)
        branches[name] = _moments(block.branch(block.activated(inputs[0])))

    return record


@contextmanager
def _skip_gains(blocks: Iterable[ResidualBlock], value: float) -> Iterator[None]:
    """Set the SkipInit gain of every block, then restore the original gains."""
    gains = [block.skip_gain for block in blocks if block.skip_gain is not None]
    with _set_gains(gains, value):
        yield


@contextmanager
def _set_gains(gains: Sequence[Tensor], value: float | None) -> Iterator[None]:
    """Set some gains, unless the value is None, then restore them."""
    own = [gain.clone() for gain in gains]
    if value is not None:
        for gain in gains:
            gain.fill_(value)
    try:
        yield
    finally:
        for gain, before in zip(gains, own, strict=True):
            gain.copy_(before)
