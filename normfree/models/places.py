"""What a block must know of its place in the network: β and its rate of stochastic depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a block stands, and what follows from it.

    Args:
        stage: number of the stage, from 0.
        first: whether it opens the stage.
        index: number of the block in the network, from 0.
        beta: one over the standard deviation of its input at initialisation.
        stochastic_depth_rate: how often it is skipped.
    """

    stage: int
    first: bool
    index: int
    beta: float
    stochastic_depth_rate: float


def places(depths: Sequence[int], alpha: float, stochastic_depth_rate: float) -> list[Place]:
    r"""The blocks of a network in order.

    .. math:: \mathrm{Var}_{l+1} = \mathrm{Var}_l + \alpha^2, \qquad
        \beta_l = \mathrm{Var}_l^{-1/2}, \qquad r_l = r\,l/L

    The variance starts at one. The first block of a stage projects its normalised input, so that
    after it the sum starts again from one; that block itself still sees what the stage before it
    has summed up.

    Args:
        depths: blocks of each stage.
        alpha: :math:`\alpha`, the scale of every residual branch.
        stochastic_depth_rate: :math:`r`, which the last of the :math:`L` blocks nearly reaches.

    Example:
        >>> for place in places((1, 3), alpha=0.2, stochastic_depth_rate=0.2):
        ...     print(place.stage, place.first, round(place.beta, 4), place.stochastic_depth_rate)
        0 True 1.0 0.0
        1 True 0.9806 0.05
        1 False 0.9806 0.1
        1 False 0.9623 0.15

    Source: section 3 of the paper and the authors' code.

    Differs from: timm, which spaces the rates so that the last block reaches ``rate``.
    """
    sequence: list[Place] = []
    variance, total = 1.0, sum(depths)
    for stage, depth in enumerate(depths):
        for position in range(depth):
            index = len(sequence)
            rate = round(stochastic_depth_rate * index / total, 15)
            sequence.append(Place(stage, position == 0, index, variance**-0.5, rate))
            variance = (1.0 if position == 0 else variance) + alpha**2
    return sequence


def round_channels(channels: float, divisor: int) -> int:
    """The nearest multiple of a number, and at least that number; 1 rounds down.

    >>> round_channels(175.5, 1), round_channels(175.5, 8), round_channels(3, 8)
    (175, 176, 8)
    """
    return max(int(channels + divisor // 2) // divisor * divisor, divisor)


def grouped_width(channels: float, group_width: int) -> int:
    """Channels of a grouped convolution: the nearest whole number of groups below.

    >>> grouped_width(384 * 0.5, 128), grouped_width(36 * 2.25, 8), grouped_width(5, 8)
    (128, 80, 8)
    """
    return max(int(channels) // group_width, 1) * group_width
