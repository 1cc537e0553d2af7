"""Micro-batches on their way to a GPU, while it still works on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

import torch

from normfree.data import MicroBatch

_AHEAD = 2  # micro-batches on the GPU that are not done; bounds the memory


def uploaded(
    micro_batches: Generator[MicroBatch, None, None], device: str
) -> Generator[MicroBatch, None, None]:
    """Micro-batches whose images are on the device; all else stays on the host, which reads it.

    On CUDA, images are pinned and copied on a stream of their own: the copy runs beside the kernels
    of the micro-batch before, and the network's stream waits for it, not the host. The host waits
    only where it is two micro-batches ahead of the GPU. Elsewhere, nothing changes.

    Args:
        micro_batches: on the host; closed with this generator.
        device: of the network.
    """
    try:
        if not device.startswith("cuda"):
            yield from micro_batches
            return
        side = torch.cuda.Stream(device)
        done: deque[torch.cuda.Event] = deque()
        for micro_batch in micro_batches:
            if len(done) == _AHEAD:
                done.popleft().synchronize()
            yield _uploaded(micro_batch, device, side)
            del micro_batch  # its host memory is used again
            done.append(torch.cuda.current_stream(device).record_event())
    finally:
        micro_batches.close()


def _uploaded(micro_batch: MicroBatch, device: str, side: torch.cuda.Stream) -> MicroBatch:
    with torch.cuda.stream(side):
        # The allocator of pinned memory keeps it until the copy is done.
        images = micro_batch.images.pin_memory().to(device, non_blocking=True)
        copied = side.record_event()
    network = torch.cuda.current_stream(device)
    network.wait_event(copied)
    images.record_stream(network)  # freed memory is not used by the next copy too early
    return micro_batch._replace(images=images)
