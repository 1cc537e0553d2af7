"""Add a telemetry probe: how much of each layer is clipped, read after every step.

    python examples/add_a_telemetry_probe.py

The optimizer keeps the scales of its last step by parameter name (``optimizer.clip_record``), and
PyTorch calls a hook after each step. The probe accumulates on the device; only ``table`` waits for
it. With another optimizer, pass it what ``AGC().clip_(groups)`` returns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

import normfree
from normfree.optim import AGCSGD, ClipRecord, param_groups


class ClippedFraction:
    """The fraction of the units of each layer that was clipped, over all steps."""

    def __init__(self) -> None:
        self.clipped: dict[str, torch.Tensor | int] = {}
        self.units: dict[str, int] = {}

    def add(self, record: ClipRecord) -> None:
        """Accumulate the counts of a step, on their device."""
        for name, scale in record.by_name().items():
            layer, _, _ = name.rpartition(".")
            self.clipped[layer] = self.clipped.get(layer, 0) + (scale < 1).sum()
            self.units[layer] = self.units.get(layer, 0) + scale.numel()

    def hook(self, optimizer: AGCSGD, *_: Any) -> None:
        """For ``optimizer.register_step_post_hook``."""
        self.add(optimizer.clip_record)

    def table(self, rows: int) -> str:
        """The layers that are clipped most; this waits for the device."""
        means = {layer: int(count) / self.units[layer] for layer, count in self.clipped.items()}
        most = sorted(means.items(), key=lambda item: -item[1])[:rows]
        lines = [f"{layer:28} {self.units[layer]:6} {mean:8.1%}" for layer, mean in most]
        return "\n".join([f"{'layer':28} {'units':>6} {'clipped':>8}", *lines])


def main() -> None:
    """Train a tiny network for a few steps and print what was clipped."""
    torch.manual_seed(0)
    model = normfree.create_model("nfnet_pico", num_classes=8)
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    optimizer = AGCSGD(param_groups(model, clipping=0.05), lr=0.05)
    probe = ClippedFraction()
    optimizer.register_step_post_hook(probe.hook)
    for _ in range(10):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    print(probe.table(rows=12))


if __name__ == "__main__":
    main()
