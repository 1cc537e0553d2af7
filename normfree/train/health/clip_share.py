"""Notice clipping that clips everything, or nothing, for long."""

from __future__ import annotations

_NEARLY_ALL = 0.99
_LINES = {"all": 10, "none": 50}  # reports in a row that make a warning


class ClipShare:
    """Follows the share of units whose gradient is clipped, from report to report.

    Example:
        >>> share = ClipShare()
        >>> said = [share.see(1.0, steps=20) for _ in range(20)]
        >>> [line for line in said if line]
        ['clipping has scaled 99 % or more of all units for 200 steps: the gradient hardly decides
        how far weights move; raise --clipping, or lower the learning rate']
    """

    def __init__(self) -> None:
        self._lines = dict.fromkeys(_LINES, 0)
        self._steps = dict.fromkeys(_LINES, 0)
        self._said: set[str] = set()

    def see(self, share: float, steps: int) -> str | None:
        """Look at a report; what to say, once for each of the two.

        Args:
            share: of units that were clipped.
            steps: since the last report.
        """
        for kind, found in (("all", share >= _NEARLY_ALL), ("none", share == 0)):
            self._lines[kind] = self._lines[kind] + 1 if found else 0
            self._steps[kind] = self._steps[kind] + steps if found else 0
            if self._lines[kind] >= _LINES[kind] and kind not in self._said:
                self._said.add(kind)
                return _said(kind, self._steps[kind])
        return None


def _said(kind: str, steps: int) -> str:
    if kind == "none":
        return f"clipping has changed no gradient for {steps} steps; if it should, lower --clipping"
    return (
        f"clipping has scaled 99 % or more of all units for {steps} steps: the gradient hardly "
        "decides how far weights move; raise --clipping, or lower the learning rate"
    )
