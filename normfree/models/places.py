"""Properties determined by a block's position in the network: β, stochastic depth, channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from normfree.nn import Residual, ResidualBlock
from normfree.nn.residual import BetaPlace


@dataclass(frozen=True)
class Place:
    """The position of a block and the settings derived from it.

    Args:
        stage: number of the stage, from 0.
        first: whether the block is the first of its stage.
        residual: its α and β, its stochastic depth rate, and its number in the network, from 0.
    """

    stage: int
    first: bool
    residual: Residual


def places(
    depths: Sequence[int],
    alpha: float,
    stochastic_depth_rate: float,
    beta_place: BetaPlace = "after",
) -> list[Place]:
    r"""The positions of all blocks in a network, in order.

    .. math:: \mathrm{Var}_{l+1} = \mathrm{Var}_l + \alpha^2, \qquad
        \beta_l = \mathrm{Var}_l^{-1/2}, \qquad r_l = r\,l/L

    The variance starts at one. The first block of a stage projects its normalized input, so the
    variance resets to one after that block. The block's own β still uses the variance accumulated
    by the preceding stage.

    Args:
        depths: blocks in each stage.
        alpha: :math:`\alpha`, the scale of every residual branch.
        stochastic_depth_rate: :math:`r`; the last of the :math:`L` blocks has :math:`r(L-1)/L`.
        beta_place: whether β is applied after or before the activation.

    Example:
        >>> for place in places((1, 3), alpha=0.2, stochastic_depth_rate=0.2):
        ...     block = place.residual
        ...     print(place.stage, place.first, round(block.beta, 4), block.stochastic_depth_rate)
        0 True 1.0 0.0
        1 True 0.9806 0.05
        1 False 0.9806 0.1
        1 False 0.9623 0.15

    Source: section 3 of the paper and the authors' code.

    Differs from: timm, where the last block reaches the full rate.
    """
    sequence: list[Place] = []
    variance, total = 1.0, sum(depths)
    for stage, depth in enumerate(depths):
        for position in range(depth):
            index = len(sequence)
            residual = Residual(
                alpha=alpha,
                beta=variance**-0.5,
                beta_place=beta_place,
                stochastic_depth_rate=round(stochastic_depth_rate * index / total, 15),
                stream=index,
            )
            sequence.append(Place(stage, position == 0, residual))
            variance = (1.0 if position == 0 else variance) + alpha**2
    return sequence


def build_stages(
    where: Iterable[Place], channels: int, new_block: Callable[[Place, int], ResidualBlock]
) -> tuple[nn.ModuleList, int]:
    """Build the stages of a network, block by block.

    Args:
        where: position of each block, in order.
        channels: output channels of the stem.
        new_block: builds a block from its position and its number of input channels.

    Returns:
        One list of blocks per stage, and the output channels of the last stage.
    """
    stages = nn.ModuleList()
    for place in where:
        if place.first:
            stages.append(nn.ModuleList())
        block = new_block(place, channels)
        stages[place.stage].append(block)  # type: ignore[operator]
        channels = block.out_channels
    return stages, channels
