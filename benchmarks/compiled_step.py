"""A training step under torch.compile: ours beside timm's dm_nfnet_f0, phase by phase.

    PYTHONPATH=. python benchmarks/compiled_step.py --batch 4 --rounds 12 --json OUT.json

Both networks are compiled by the same call, with static shapes, and take turns in one process. timm
runs with its own AGC, ``SGD(fused=True)`` and ``ModelEmaV3``. ``kernel`` variants standardize
weights by this package's operator, into which the compiler does not look; ``equation`` variants by
PyTorch's operations, which it fuses, as the network does. ``eager`` variants are not compiled: ours
then convolves by this package's kernels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.timm_standin import install
from normfree import create_model
from normfree.analysis.environment import environment
from normfree.nn import convolve
from normfree.nn.functional import standardize_weight
from normfree.optim import AGCSGD, EMA, param_groups

PHASES = ("forward", "backward", "update", "total")
VARIANTS = ("timm", "timm channels_last", "equation", "equation channels_last")
VARIANTS += ("kernel", "kernel channels_last")
VARIANTS += ("timm eager", "timm eager channels_last", "ours eager", "ours eager channels_last")

Step = Callable[[], list[float]]


def timm_step(images: Tensor, labels: Tensor, form: set[str]) -> Step:
    """Timm's network, clipping, optimizer and average."""
    install()
    import timm
    from timm.utils import ModelEmaV3, adaptive_clip_grad

    model = moved_off_zero(timm.create_model("dm_nfnet_f0"), "skipinit_gain").train()
    model, images = in_layout(model, images, form)
    settings: dict[str, Any] = {"momentum": 0.9, "nesterov": True, "weight_decay": 2e-5}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True, **settings)
    average = ModelEmaV3(model, decay=0.9999, foreach=True)

    def update() -> None:
        adaptive_clip_grad(model.parameters(), 0.01)
        optimizer.step()
        average.update(model)
        optimizer.zero_grad()

    return phases(compiled(lambda x, y: cross_entropy(model(x), y), form), images, labels, update)


def our_step(images: Tensor, labels: Tensor, form: set[str]) -> Step:
    """This package's network, optimizer and average."""
    model = moved_off_zero(create_model("nfnet_f0"), "skip_gain").train()
    model, images = in_layout(model, images, form)
    groups = param_groups(model, weight_decay=2e-5, clipping=0.01)
    optimizer = AGCSGD(groups, lr=1e-3)
    average, keys = EMA(model, decay=0.9999), torch.arange(len(images))

    def update() -> None:
        optimizer.step_and_average(average, 1000)
        optimizer.zero_grad()

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(model(x, keys), y)

    step = phases(compiled(loss_of, form), images, labels, update)
    chosen = torch.ops.normfree.standardize if "kernel" in form else standardize_weight

    def with_chosen() -> list[float]:
        with mock.patch.object(
            convolve, "standardize_weight", chosen
        ):  # the compiler looks at it each time
            return step()

    return with_chosen


def moved_off_zero(model: nn.Module, gain: str) -> nn.Module:
    """With residual branches that count from the start."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(gain):
                parameter.fill_(0.5)
    return model


def in_layout(model: nn.Module, images: Tensor, form: set[str]) -> tuple[nn.Module, Tensor]:
    """Model and images, with channels last if the form says so."""
    if "channels_last" not in form:
        return model, images
    layout = torch.channels_last
    return model.to(memory_format=layout), images.to(memory_format=layout)


def compiled(function: Callable[..., Tensor], form: set[str]) -> Callable[..., Tensor]:
    """By the same settings for both."""
    return function if "eager" in form else torch.compile(function, dynamic=False)


def phases(
    loss_of: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    update: Callable[[], None],
) -> Step:
    """A step that returns the seconds of its phases."""

    def step() -> list[float]:
        times = [time.perf_counter()]
        loss = loss_of(images, labels)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        update()
        times.append(time.perf_counter())
        laps = [after - before for before, after in pairwise(times)]
        return [*laps, sum(laps)]

    return step


def main() -> None:
    """Measure and print; write JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--variants", nargs="*", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, options.size, options.size)
    labels = torch.randint(0, 1000, (options.batch,))
    steps: dict[str, Step] = {}
    first: dict[str, float] = {}
    for name in options.variants:
        form = set(name.split())
        began = time.perf_counter()
        steps[name] = (timm_step if "timm" in form else our_step)(images, labels, form)
        steps[name]()
        first[name] = time.perf_counter() - began
        print(f"{name}: first step {first[name]:.1f} s", flush=True)
    seconds: dict[str, list[list[float]]] = {name: [] for name in steps}
    for number in range(options.rounds + 1):
        for name, step in steps.items():
            laps = step()
            if number:
                seconds[name].append(laps)
    results = {}
    for name, rows in seconds.items():
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        results[name] = dict(zip(PHASES, medians, strict=True)) | {"first_step": first[name]}
        line = "  ".join(f"{phase} {1000 * results[name][phase]:.0f}" for phase in PHASES)
        print(f"{name:24} {line}")
    if options.json is not None:
        setting = {"model": "F0", "batch": options.batch, "size": options.size}
        found = {"benchmark": "compiled_step", **environment(), **setting}
        found |= {"rounds": options.rounds, "median_seconds": results}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
