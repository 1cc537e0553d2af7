"""Uploads on a stream of their own, with CUDA imitated: what is called, and in which order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from normfree.data import MicroBatch
from normfree.train.transfer import uploaded


class Cuda:
    """Streams, events and images that only note what is done with them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.on = "network"
        self.events = 0

    def stream_named(self, name: str) -> Any:
        cuda = self

        class Stream:
            def record_event(self) -> Any:
                cuda.events += 1
                number = cuda.events
                cuda.calls.append(f"{name} records {number}")
                return type("Event", (), {
                    "number": number,
                    "synchronize": lambda self: cuda.calls.append(f"host waits for {number}"),
                })()  # fmt: skip

            def wait_event(self, event: Any) -> None:
                cuda.calls.append(f"{name} waits for {event.number}")

        return Stream()

    @contextmanager
    def stream(self, stream: Any) -> Any:
        self.on = "side"
        yield
        self.on = "network"

    def images(self, name: str) -> Any:
        cuda = self

        class Images:
            def pin_memory(self) -> Any:
                return self

            def to(self, device: str, *, non_blocking: bool) -> Any:
                assert non_blocking
                cuda.calls.append(f"{cuda.on} copies {name} to {device}")
                return self

            def record_stream(self, stream: Any) -> None:
                cuda.calls.append(f"{name} is used by network")

        return Images()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found = Cuda()
    network = found.stream_named("network")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: found.stream_named("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: network)
    monkeypatch.setattr(torch.cuda, "stream", found.stream)
    return found


def micro_batch(images: Any) -> MicroBatch:
    rows, none = torch.arange(2), torch.zeros(2, dtype=torch.bool)
    return MicroBatch(images, rows, rows, None, none, none)


def test_the_copy_is_on_the_side_and_the_network_waits_for_it(cuda: Cuda) -> None:
    source = (micro_batch(cuda.images(name)) for name in "abcd")
    for batch in uploaded(source, "cuda:1"):
        cuda.calls.append("kernels")
        assert batch.labels.device.type == "cpu"
    assert cuda.calls[:5] == [
        "side copies a to cuda:1",
        "side records 1",
        "network waits for 1",
        "a is used by network",
        "kernels",
    ]
    waits = [call for call in cuda.calls if call.startswith("host")]
    assert waits == ["host waits for 2", "host waits for 4"]  # the ends of a and b
    assert cuda.calls.index("host waits for 2") < cuda.calls.index("side copies c to cuda:1")
    assert cuda.calls.index("host waits for 2") > cuda.calls.index("side copies b to cuda:1")


def test_elsewhere_nothing_is_copied() -> None:
    batch = micro_batch(torch.zeros(2, 3, 4, 4))
    (found,) = uploaded((item for item in [batch]), "cpu")
    assert found is batch


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_reader_is_closed_with_it(device: str, cuda: Cuda) -> None:
    closed = []

    def source() -> Any:
        try:
            for name in "ab":
                yield micro_batch(cuda.images(name))
        finally:
            closed.append(True)

    batches = uploaded(source(), device)
    next(batches)
    batches.close()
    assert closed == [True]
