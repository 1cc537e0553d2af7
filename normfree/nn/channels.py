"""Channel counts: the upper bound, and rounding to a multiple."""

from __future__ import annotations

from typing import Annotated

from normfree.schema import Field

#: Upper bound on the channels of a feature map, well above that of any real network.
MOST_CHANNELS = 65_536

#: A valid number of channels.
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]


def round_channels(channels: float, divisor: int, *, down: bool = False) -> int:
    """Round to the nearest multiple of ``divisor``, or down; the result is at least ``divisor``.

    Args:
        channels: number of channels, possibly fractional, from a ratio or a multiplier.
        divisor: the result is a multiple of it; 1 rounds down, like the authors' ``int``.
        down: whether to round down, which gives a whole number of groups.

    >>> round_channels(175.5, 1), round_channels(175.5, 8), round_channels(3, 8)
    (175, 176, 8)
    >>> round_channels(384 * 0.5, 128, down=True), round_channels(5, 8, down=True)
    (128, 8)
    """
    half = 0 if down else divisor // 2
    return max(int(channels + half) // divisor, 1) * divisor
