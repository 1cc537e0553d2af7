"""Settings that no training could use are refused when they are made, by name."""

from __future__ import annotations

import math
from typing import NamedTuple

from normfree.errors import UserError


class Range(NamedTuple):
    """The finite numbers that a setting may have.

    Attributes:
        low: the lower bound.
        below: the upper bound, which no value reaches.
        closed: whether the lower bound itself is allowed.
        off: whether None is allowed, which switches off what the setting belongs to.

    Example:
        >>> Range(0.0, below=1.0).check("momentum", 1.5)
        Traceback (most recent call last):
        normfree.errors.UserError: momentum must be at least 0 and below 1; got 1.5
        >>> Range(0.0, closed=False, off=True).check("clipping", 0.0)
        Traceback (most recent call last):
        normfree.errors.UserError: clipping must be above 0 and finite, or None for none; got 0.0
    """

    low: float = 0.0
    below: float = math.inf
    closed: bool = True
    off: bool = False

    def check(self, name: str, value: object) -> None:
        """Refuse a value outside.

        Raises:
            UserError: the setting, what it may be, and what it was.
        """
        if value is None and self.off:
            return
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        above = number >= self.low if self.closed else number > self.low
        if not (above and number < self.below):
            least = f"at least {self.low:g}" if self.closed else f"above {self.low:g}"
            most = "finite" if self.below == math.inf else f"below {self.below:g}"
            off = ", or None for none" if self.off else ""
            raise UserError(f"{name} must be {least} and {most}{off}; got {value!r:.40}")


AT_LEAST_ZERO = Range()
POSITIVE = Range(closed=False)
POSITIVE_OR_NONE = Range(closed=False, off=True)
FRACTION = Range(below=1.0)
