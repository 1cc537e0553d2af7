"""Validation of optimizer settings; errors name the setting."""

from __future__ import annotations

import math
from typing import NamedTuple

from normfree.errors import UserError


class Range(NamedTuple):
    """A range of finite numbers that are valid for a setting.

    Attributes:
        low: the lower bound.
        below: the exclusive upper bound.
        closed: whether the lower bound is inclusive.
        off: whether None is allowed, which turns the feature off.

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
        """Check that a value is in the range.

        Raises:
            UserError: it is not. The message has the setting, its range and the value.
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
