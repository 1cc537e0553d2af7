"""Let all ranks stop after the same step, though a signal reaches each at a time of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from normfree.train.runtime import Runtime


class Wish(NamedTuple):
    """What ranks tell each other after a step.

    Attributes:
        signum: the signal that asked to stop; None without one.
        overdue: whether a checkpoint is.
    """

    signum: int | None = None
    overdue: bool = False


class Agreement:
    """What any rank was asked for; one step late, so that no rank waits for it.

    Ranks tell each other while they compute the next step, host to host.

    Args:
        runtime: the ranks.

    Example:
        >>> agreement = Agreement(Runtime(device="cpu"))
        >>> agreement.on(Wish()), agreement.on(Wish(signum=15))
        (Wish(signum=None, overdue=False), Wish(signum=15, overdue=False))
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._said = torch.zeros(2, dtype=torch.int64)
        self._work: Any = None

    def on(self, wish: Wish) -> Wish:
        """What any rank had been asked for by the last call; alone, what this process has."""
        if self.runtime.world == 1:
            return wish
        import torch.distributed as dist

        agreed = self._agreed()
        self._said = torch.tensor([wish.signum or 0, int(wish.overdue)])
        self._work = dist.all_reduce(
            self._said, op=dist.ReduceOp.MAX, group=self.runtime.hosts, async_op=True
        )
        return agreed

    def close(self) -> None:
        """Wait for what is on its way."""
        self._agreed()

    def _agreed(self) -> Wish:
        if self._work is None:
            return Wish()
        self._work.wait()
        self._work = None
        signum, overdue = self._said.tolist()
        return Wish(signum or None, bool(overdue))
