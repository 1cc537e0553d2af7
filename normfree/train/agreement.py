"""Let all ranks stop after the same step, though a signal reaches each at a time of its own."""

from __future__ import annotations

from typing import Any

import torch

from normfree.train.runtime import Runtime


class Agreement:
    """The signal that asked any rank to stop; one step late, so that no rank waits for it.

    Ranks tell each other while they compute the next step, host to host.

    Args:
        runtime: the ranks.

    Example:
        >>> agreement = Agreement(Runtime(device="cpu"))
        >>> agreement.on(None), agreement.on(15)
        (None, 15)
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._said = torch.zeros(1, dtype=torch.int64)
        self._work: Any = None

    def on(self, signum: int | None) -> int | None:
        """What all ranks had been asked for by the last call; alone, what this process has."""
        if self.runtime.world == 1:
            return signum
        import torch.distributed as dist

        agreed = self._agreed()
        self._said = torch.tensor([signum or 0])
        self._work = dist.all_reduce(
            self._said, op=dist.ReduceOp.MAX, group=self.runtime.hosts, async_op=True
        )
        return agreed

    def close(self) -> None:
        """Wait for what is on its way."""
        self._agreed()

    def _agreed(self) -> int | None:
        if self._work is None:
            return None
        self._work.wait()
        self._work = None
        return int(self._said) or None
