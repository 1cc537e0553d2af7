"""Activations, gates and residual sums by kernels, beside a copy and beside PyTorch's operations.

    python benchmarks/activations.py benchmarks/results/DATE_activations.json

Two parts: each kernel, against copying the bytes that it reads and writes; and the forward and
backward phases of a training step of NFNet-F0, with and without these kernels (all others stay in
use). Variants take turns in one process. Ratios of medians are reported; a busy machine slows all
variants.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import normfree
from normfree.analysis.environment import environment
from normfree.kernels import maps

Call = Callable[[], Any]

SHAPES = [(16, 256, 24, 24), (16, 512, 12, 12), (16, 1536, 6, 6)]
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def in_turns(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call; the first two rounds are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 2):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: values[2:] for name, values in seconds.items()}


def kernels_on(x: Tensor, grad: Tensor, skip: Tensor) -> dict[str, tuple[int, Call, Call]]:
    """For each kernel: the maps that it touches, the kernel, and PyTorch's operations."""
    gate, shift = torch.rand(2, *x.shape[:2])
    wide, twin = gate[:, :, None, None], x.clone().requires_grad_()
    gelu = F.gelu(twin, approximate="tanh") * 1.7 * 0.9
    return {
        "gelu": (
            2,
            lambda: maps.activate("gelu", x, 1.53),
            lambda: F.gelu(x, approximate="tanh") * 1.7 * 0.9,
        ),
        "gelu backward": (
            3,
            lambda: maps.activate("gelu", x, 1.53, grad),
            lambda: torch.autograd.grad(gelu, twin, grad, retain_graph=True),
        ),
        "silu": (2, lambda: maps.activate("silu", x, 1.53), lambda: F.silu(x) * 1.7 * 0.9),
        "relu": (2, lambda: maps.activate("relu", x, 1.53), lambda: F.relu(x) * 1.7 * 0.9),
        "gated add": (
            3,
            lambda: maps.gate(x, gate, skip),
            lambda: skip + x * wide * 0.2,
        ),
        "gated add backward": (
            3,
            lambda: maps.gate_gradients(grad, x, gate),
            lambda: (grad * wide, (grad * x).sum((2, 3))),
        ),
        "squeeze-and-excite backward": (
            4,
            lambda: (maps.channel_sums(grad, x), maps.gate(grad, gate, None, shift)),
            lambda: ((grad * x).sum((2, 3)), grad * wide + shift[:, :, None, None]),
        ),
        "spatial mean": (1, lambda: maps.channel_sums(x), lambda: x.mean((2, 3))),
    }


def measured_kernels(rounds: int) -> list[dict[str, Any]]:
    """Each kernel at the shapes of NFNet-F0 at 96 pixels."""
    rows = []
    for shape in SHAPES:
        for name, memory_format in FORMATS.items():
            maps_ = [torch.randn(shape).contiguous(memory_format=memory_format) for _ in range(3)]
            for kernel, (streams, ours, theirs) in kernels_on(*maps_).items():
                calls = {
                    "copy": lambda x=maps_[0]: torch.clone(x),
                    "kernel": ours,
                    "PyTorch": theirs,
                }
                seconds = {k: median(v) for k, v in in_turns(calls, rounds).items()}
                copy = seconds["copy"] / 2 * streams
                rows.append(
                    {
                        "kernel": kernel,
                        "shape": shape,
                        "format": name,
                        "milliseconds": {k: round(1e3 * v, 4) for k, v in seconds.items()},
                        "times_copy_of_its_bytes": round(seconds["kernel"] / copy, 2),
                        "times_faster_than_pytorch": round(
                            seconds["PyTorch"] / seconds["kernel"], 2
                        ),
                    }
                )
                print(*(rows[-1].values()))
    return rows


def measured_step(batch: int, rounds: int, memory_format: torch.memory_format) -> dict[str, Any]:
    """The phases of a step of NFNet-F0 with 96 pixels, with and without kernels."""
    torch.manual_seed(0)
    model = normfree.create_model("nfnet_f0").to(memory_format=memory_format).train()
    for name, value in model.named_parameters():
        if name.endswith("skip_gain"):
            torch.nn.init.constant_(value, 0.5)
    images = torch.randn(batch, 3, 96, 96).contiguous(memory_format=memory_format)
    labels = torch.randint(1000, (batch,))
    seconds: dict[str, list[tuple[float, float]]] = {"kernels": [], "equations": []}
    supported = maps.supported
    for _ in range(rounds + 2):
        for name, values in seconds.items():
            maps.supported = supported if name == "kernels" else lambda x: False
            model.zero_grad()
            began = time.perf_counter()
            loss = F.cross_entropy(model(images), labels)
            middle = time.perf_counter()
            loss.backward()
            values.append((middle - began, time.perf_counter() - middle))
    maps.supported = supported
    phases = {
        name: [round(1e3 * median(phase), 1) for phase in zip(*values[2:], strict=True)]
        for name, values in seconds.items()
    }
    ratios = [b / a for a, b in zip(phases["kernels"], phases["equations"], strict=True)]
    return {
        "batch": batch,
        "format": str(memory_format),
        "phases": ["forward", "backward"],
        "milliseconds": phases,
        "times_faster": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("--rounds", type=int, default=60, help="of each kernel")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, help="by default, PyTorch's number")
    parser.add_argument("--note", default="")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    result = {"benchmark": "activations", **environment(), "note": args.note}
    result["kernels_in_turns"] = measured_kernels(args.rounds)
    result["steps"] = []
    for batch in (4, 16):
        for memory_format in FORMATS.values():
            result["steps"].append(measured_step(batch, args.steps, memory_format))
            print(result["steps"][-1])
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
