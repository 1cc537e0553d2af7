"""One step of training, in phases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from normfree.analysis.training.entry import Entry, Parts
from normfree.analysis.training.ours import our_parts
from normfree.analysis.training.peers import peer_parts


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that can be taken phase by phase.

    Attributes:
        phases: name → function, to be called in order: the forward pass (with the loss, and with
            the last gradients dropped), the backward pass, the update (with clipping and average),
            unless the backward pass does that, too.
        macs: multiply-adds of the forward pass.
        parameters: number of learnable scalars.
    """

    phases: dict[str, Callable[[], object]]
    macs: int
    parameters: int

    def __call__(self) -> None:
        """Take the step."""
        for phase in self.phases.values():
            phase()


def build_step(entry: Entry) -> Step:
    """The step of a network on random images that are on the device.

    Raises:
        UserError: there is no such network.
    """
    torch.manual_seed(0)
    parts = (our_parts if entry.by == "normfree" else peer_parts)(entry)
    network = parts.network
    shape = (entry.batch_size, 3, entry.size, entry.size)
    images = torch.randn(shape, device=entry.device)
    labels = torch.randint(0, 1000, shape[:1], device=entry.device)
    images = images.contiguous(memory_format=entry.memory_format)
    return Step(
        phases=_phases(entry, parts, _formed(network, entry), images, labels),
        macs=parts.macs * entry.batch_size,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def _formed(network: nn.Module, entry: Entry) -> Callable[[Tensor], Tensor]:
    if entry.form == "eager":
        return network
    mode = "reduce-overhead" if entry.form == "cuda_graphs" else None
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, mode=mode)
    return compiled


def _phases(
    entry: Entry, parts: Parts, network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> dict[str, Callable[[], object]]:
    loss: list[Tensor] = []
    kind = torch.device(entry.device).type
    half = entry.precision != "float32"
    # bfloat16 has the range of float32; gradients of float16 need a scale.
    scaler: Any = torch.amp.GradScaler(kind) if entry.precision == "float16" else None

    def forward() -> None:
        parts.optimizer.zero_grad(set_to_none=True)
        if entry.form == "cuda_graphs":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(kind, entry.dtype) if half else contextlib.nullcontext():
            logits = network(images)
        loss[:] = [F.cross_entropy(logits.float(), labels)]

    def backward() -> None:
        value = loss.pop()
        (value if scaler is None else scaler.scale(value)).backward()

    def update() -> None:
        parts.update(scaler)
        if scaler is not None:
            scaler.update()

    def backward_and_update() -> None:
        assert parts.in_backward is not None
        with parts.in_backward():
            backward()

    if entry.update == "in_backward":
        return {"forward": forward, "backward": backward_and_update}
    return {"forward": forward, "backward": backward, "update": update}
