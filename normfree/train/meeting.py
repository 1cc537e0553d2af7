"""A store that the processes of one start share, and not those that a launcher started before."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from normfree.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import PrefixStore, Store

_PAUSE = 0.01  # seconds between two looks at the store


def meet(store: Store, rank: int, world: int, timeout: timedelta) -> PrefixStore:
    """A part of a store for these processes alone.

    ``torchrun`` keeps its store when it starts processes again, and with it the addresses of those
    that are gone. Its count of restarts does not tell starts apart either: each machine has its
    own. So each rank leaves a number that no other process had, and the first one answers it.

    Args:
        store: what all ranks can read.
        rank: number of this process.
        world: number of processes.
        timeout: how long to wait for the others.

    Raises:
        UserError: some do not come.

    Example:
        >>> from torch.distributed import HashStore
        >>> store = meet(HashStore(), rank=0, world=1, timeout=timedelta(seconds=1))
        >>> store.set("a", "b"), store.get("a")
        (None, b'b')
    """
    from torch.distributed.distributed_c10d import PrefixStore

    if rank > 0:
        own = uuid.uuid4().hex
        store.set(f"here/{rank}", own)
        meeting = store.get(f"answer/{own}").decode()
        store.set(f"{meeting}/{rank}", "1")
        return PrefixStore(meeting, store)
    meeting = uuid.uuid4().hex
    missing = set(range(1, world))
    deadline = time.monotonic() + timeout.total_seconds()
    while missing:
        for other in list(missing):
            if store.check([f"{meeting}/{other}"]):
                missing.remove(other)
            elif store.check([f"here/{other}"]):  # perhaps by one that is gone: asked again
                store.set(f"answer/{store.get(f'here/{other}').decode()}", meeting)
        if missing and time.monotonic() > deadline:
            some = ", ".join(map(str, sorted(missing)[:8]))
            raise UserError(f"rank {some} did not come within {timeout.total_seconds():g} s")
        time.sleep(_PAUSE)
    return PrefixStore(meeting, store)
