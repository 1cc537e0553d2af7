"""Regression test: initial parameters and outputs of every kind of network stay bit-identical.

A seed must keep producing the same network: the same parameter names and shapes, drawn in the same
order. ``data/pinned.json`` holds the values from before the blocks were split into components.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from normfree.models import ABLATIONS, ImageClassifier, build_model

FILE = Path(__file__).parent / "data" / "pinned.json"
PINNED: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}

NARROW = {"widths": (16, 32, 48, 48), "depths": (1, 1, 2, 1), "num_classes": 5}
NFNET = {**NARROW, "group_widths": (8,) * 4, "stem_channels": (4, 8, 8)}
REGNET = {"widths": (24, 32, 48, 48), "depths": (1, 1, 2, 1), "head_channels": 440}
SMALL = {"num_classes": 5}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pico": ("nfnet_pico", {}),
    "nano": ("nfnet_nano", {}),
    "micro": ("nfnet_micro", {}),
    "gray without classes": ("nfnet_pico", {"in_channels": 1, "num_classes": 0}),
    "nfnet": ("nfnet_f0", NFNET),
    "nfnet silu": ("nfnet_f0", NFNET | {"activation": "silu", "alpha": 0.3}),
    "deep nfnet": ("nfnet_f0", NFNET | {"depths": (2, 3, 3, 2)}),
    "batch-normalized nfnet": ("bn_nfnet_f0", NFNET),
    "batch-normalized pico": ("nfnet_pico", {"normalization": "batch"}),
    "resnet": ("nf_resnet50", NARROW),
    "se-resnet": ("nf_resnet50", NARROW | {"se_place": "output"}),
    "resnet that pools": ("nf_resnet50", NARROW | {"pool_shortcut": True}),
    "batch-normalized resnet": ("bn_resnet50", NARROW),
    "regnet": ("nf_regnet_b0", REGNET | SMALL),
    "regnet by eights": ("nf_regnet_b0", REGNET | SMALL | {"channel_divisor": 8}),
    "batch-normalized regnet": ("nf_regnet_b0", REGNET | SMALL | {"normalization": "batch"}),
    **{
        f"squeeze-and-excite: {place}": ("nfnet_pico", {"se_place": place, "pointwise_groups": 2})
        for place in ("bottleneck", "straddled", "none")
    },
    **{name: ("nfnet_f0", {**ABLATIONS[name], **NFNET}) for name in ABLATIONS},
}


def build(case: str, **on: Any) -> ImageClassifier:
    name, fields = CASES[case]
    torch.manual_seed(7)
    return build_model(name, **fields, **on)


def digest(lines: list[bytes]) -> str:
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def measured(case: str) -> dict[str, Any]:
    """The pinned properties of a network: its initial parameters and its outputs."""
    model = build(case)
    state = model.state_dict()
    function = build(case, dtype=torch.float64).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in function.parameters():
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            value += 0.1 * noise
    channels = function.config.in_channels
    x = torch.randn(2, channels, 35, 40, generator=generator, dtype=torch.float64)
    logits = function(x.requires_grad_())
    logits.square().sum().backward()
    gradients = [p.grad for p in [*function.parameters(), x] if p.grad is not None]
    return {
        "names": digest([f"{k} {tuple(v.shape)}".encode() for k, v in state.items()]),
        "bits": digest([v.numpy().tobytes() for v in state.values()]),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "starts": [v.double().flatten()[0].item() for v in model.parameters()],
        "logits": logits[:, :5].flatten().tolist(),
        "gradients": [g.norm().item() for g in gradients],
    }


@pytest.mark.parametrize("case", CASES)
def test_initial_parameters_and_outputs_are_pinned(case: str) -> None:
    found, pinned = measured(case), PINNED[case]
    assert found["names"] == pinned["names"]
    if found["cpu"] == pinned["cpu"]:  # other CPUs may round normal samples differently
        assert found["bits"] == pinned["bits"]
    assert found["starts"] == pytest.approx(pinned["starts"], rel=1e-5, abs=1e-7)
    assert found["logits"] == pytest.approx(pinned["logits"], rel=1e-10, abs=1e-12)
    assert found["gradients"] == pytest.approx(pinned["gradients"], rel=1e-9, abs=1e-12)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps({case: measured(case) for case in CASES}, indent=0) + "\n")
