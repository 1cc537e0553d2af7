"""How many channels: the bound that no real network passes, and the one rounding to multiples."""

from __future__ import annotations

from typing import Annotated

from normfree.schema import Field

#: Channels of a feature map.
MOST_CHANNELS = 65_536

#: A number of channels that a network may have.
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]


def round_channels(channels: float, divisor: int, *, down: bool = False) -> int:
    """The nearest multiple of a number, or the nearest below; at least that number.

    Args:
        channels: what a ratio or a multiplier gives.
        divisor: what the result is a multiple of; 1 rounds down, as the authors' ``int``.
        down: whether to round down, as a whole number of groups is found.

    >>> round_channels(175.5, 1), round_channels(175.5, 8), round_channels(3, 8)
    (175, 176, 8)
    >>> round_channels(384 * 0.5, 128, down=True), round_channels(5, 8, down=True)
    (128, 8)
    """
    half = 0 if down else divisor // 2
    return max(int(channels + half) // divisor, 1) * divisor
