"""What is measured: a network in one form."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import nn

By: TypeAlias = Literal["normfree", "timm"]
Layout: TypeAlias = Literal["contiguous", "channels_last"]
Form: TypeAlias = Literal["eager", "compiled", "cuda_graphs"]
Update: TypeAlias = Literal["after", "in_backward"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network in one form.

    Attributes:
        network: its name in the library.
        by: the library.
        batch_size: images of a step.
        size: side of the images, pixels.
        precision: of the activations, by autocast; weights are float32.
        layout: order of the activations' axes in memory.
        form: eager, by ``torch.compile``, or by ``torch.compile`` with CUDA graphs.
        update: of the weights: after the backward pass, or while it runs.
        device: where to compute.

    >>> print(Entry(network="nfnet_f0", by="normfree", batch_size=4, size=96))
    nfnet_f0
    >>> form = {"layout": "channels_last", "form": "compiled"}
    >>> print(Entry(network="resnet50", by="timm", batch_size=4, size=96, **form))
    timm resnet50, channels_last, compiled
    """

    network: str
    by: By
    batch_size: int
    size: int
    precision: Precision = "float32"
    layout: Layout = "contiguous"
    form: Form = "eager"
    update: Update = "after"
    device: str = "cpu"

    def __str__(self) -> str:
        name = self.network if self.by == "normfree" else f"timm {self.network}"
        usual = ("contiguous", "eager", "after")
        others = (self.layout, self.form, self.update)
        return ", ".join([name, *(other for other in others if other not in usual)])

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations."""
        found: torch.dtype = getattr(torch, self.precision)
        return found

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the network, before its average is made, and of the images."""
        last = self.layout == "channels_last"
        return torch.channels_last if last else torch.contiguous_format


class Scaler(Protocol):
    """What a step needs of ``torch.amp.GradScaler``."""

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale."""
        ...

    def step(self, optimizer: torch.optim.Optimizer) -> object:
        """Unscale, unless that was done, and update."""
        ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a step of training consists of.

    Attributes:
        network: being trained, on the device.
        optimizer: of its parameters.
        update: clip, update and average, by the scaler if there is one.
        in_backward: a context in which the backward pass does the same; None where it cannot.
        macs: multiply-adds of a forward pass of one image.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    update: Callable[[Scaler | None], object]
    macs: int
    in_backward: Callable[[], AbstractContextManager[None]] | None = None


def start_branches(network: nn.Module, classifier: str) -> None:
    """Start from weights whose gradients are not all zero, as after the first steps of training.

    SkipInit starts at a gain of zero, and a classifier may.

    Args:
        network: changed in place.
        classifier: name of the last layer.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("skip_gain", "skipinit_gain")):
                parameter.fill_(0.5)
            if name == f"{classifier}.weight":
                parameter.normal_(std=0.01)
