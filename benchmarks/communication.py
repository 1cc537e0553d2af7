"""What many devices cost in communication: time, efficiency and memory of NFNets at batch 4,096.

    python benchmarks/communication.py benchmarks/results/DATE_communication.json \
        --figure docs/communication.svg

A model, not a measurement. Fed with the share of peak that a single device was measured to reach
(``SHARES``), it says what DDP and FSDP add. What it assumes is in the result file, by name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import normfree
from benchmarks.collectives import LINKS, REACHED, START, Cluster, fetched_ahead, hidden_behind
from normfree.analysis.complexity import count_macs, count_parameters, training_flops
from normfree.analysis.environment import environment

NETWORKS = [f"nfnet_f{number}" for number in range(7)]
BATCH = 4096
MICRO_BATCH = 32  # images of a device at a time, as in the paper
DEVICES = (8, 16, 32, 64, 128, 256, 512)
PLACES = {
    "NVLink 4, InfiniBand NDR 400": ("nvlink4", "ndr"),
    "NVLink 4, 100 GbE": ("nvlink4", "100gbe"),
    "PCIe 5, 100 GbE": ("pcie5", "100gbe"),
    "PCIe 5, 10 GbE": ("pcie5", "10gbe"),
}
#: Seconds of a training step of 32 images on one V100, table 3 of the paper; it has none for F6.
PAPER_V100 = dict(zip(NETWORKS, (0.0567, 0.1339, 0.2263, 0.5245, 1.1906, 2.1771), strict=False))
V100 = 125e12  # FLOP/s of its tensor cores: NVIDIA's datasheet
_BUCKET = 25e6  # bytes that DDP reduces at a time, its default
_FLOAT = 4  # bytes: weights, gradients, momentum and average are float32


@dataclass(frozen=True)
class Device:
    """An accelerator, as its maker describes it.

    Args:
        flops: bfloat16, dense, a second.
        memory: bytes a second of its memory.
        source: of both.
    """

    flops: float
    memory: float
    source: str


DEVICE = {
    "H100": Device(989e12, 3.35e12, "NVIDIA H100 SXM datasheet"),
    "A100": Device(312e12, 2.039e12, "NVIDIA A100 80GB SXM datasheet"),
}


@dataclass(frozen=True)
class Network:
    """What a step of a network takes.

    Args:
        parameters: how many.
        flops: of forward and backward pass for one image at the training size.
        blocks: residual blocks, which FSDP gathers one by one.
        activations: bytes kept for the backward pass, for one image in bfloat16.
    """

    parameters: int
    flops: int
    blocks: int
    activations: float

    @property
    def size(self) -> int:
        """Bytes of the weights; as many are those of the gradient, and so on."""
        return _FLOAT * self.parameters


@cache
def network(name: str) -> Network:
    """The numbers of a named network, from its layers' shapes."""
    model = normfree.create_model(name, device="meta")
    size = model.config.train_size
    return Network(
        parameters=count_parameters(model),
        flops=training_flops(count_macs(model, size)),
        blocks=sum(model.config.depths),
        activations=kept_activations(model, size) / 2,
    )


def kept_activations(model: normfree.ImageClassifier, size: int) -> float:
    """Bytes that autograd keeps of one image, in float32; weights do not count."""
    images, found = 3, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim > 1 and tensor.shape[0] == images and tensor.is_floating_point():
            storage = tensor.untyped_storage()
            found[storage._cdata] = tensor  # held, so that no other storage gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        keys = torch.zeros(images, dtype=torch.int64, device="meta")
        result = model.train()(torch.empty(images, 3, size, size, device="meta"), keys)
    assert result.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values()) / images


def shares(measured: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By what a device computes: network → share of its peak.

    Args:
        measured: a result of ``normfree bench train --models nfnet_f0`` on one device.
    """
    own = max(r["matrix_fraction"] for r in measured["results"] if r["by"] == "normfree")
    printed = {
        name: MICRO_BATCH * network(name).flops / seconds / V100
        for name, seconds in PAPER_V100.items()
    }
    return {
        "the paper's V100": printed | {"nfnet_f6": printed["nfnet_f5"]},
        "our step on a CPU": dict.fromkeys(NETWORKS, own),
    }


@dataclass(frozen=True)
class Step:
    """A step of all devices.

    Attributes:
        seconds: of the step.
        efficiency: share of it in which one device alone would do its part.
        memory: bytes of a device.
    """

    seconds: float
    efficiency: float
    memory: float


def step(kind: str, work: Network, cluster: Cluster, device: Device, share: float) -> Step:
    """A step with ``ddp`` or ``fsdp``.

    The forward pass is a third of the computation. DDP reduces buckets of gradients during the
    backward pass of the last micro-batch. FSDP gathers each block's weights ahead of it in both
    passes of each micro-batch, and scatters its gradient behind it; gains and biases, which it
    leaves whole, are too few to count. The update reads and writes weights, momentum and average,
    and reads the gradient.
    """
    images = BATCH / cluster.devices
    passes = -(-images // MICRO_BATCH)
    forward = images / passes * work.flops / 3 / (device.flops * share)
    update = 7 * work.size / device.memory
    alone = passes * 3 * forward + update
    activations = images / passes * work.activations
    if kind == "ddp":
        buckets = max(1, round(work.size / _BUCKET))
        sent = buckets * cluster.reduce(work.size / buckets)
        seconds = alone - 2 * forward + hidden_behind(2 * forward, sent, buckets)
        return Step(seconds, alone / seconds, 4 * work.size + activations)
    gather = work.blocks * cluster.gather(work.size / work.blocks)
    there = fetched_ahead(forward, gather, work.blocks)
    back = fetched_ahead(2 * forward, 2 * gather, work.blocks) + gather / work.blocks
    seconds = passes * (there + back) + update / cluster.devices
    held = 4 * work.size / cluster.devices + 2 * work.size / work.blocks
    return Step(seconds, alone / seconds, held + activations)


def rows(share: Mapping[str, float], device: str) -> Iterator[dict[str, Any]]:
    """All networks, places and numbers of devices."""
    for place, (inside, between) in PLACES.items():
        for name in NETWORKS:
            for count in DEVICES:
                cluster = Cluster(count, LINKS[inside], LINKS[between])
                for kind in ("ddp", "fsdp"):
                    found = step(kind, network(name), cluster, DEVICE[device], share[name])
                    at = {"place": place, "network": name, "devices": count, "kind": kind}
                    yield at | {
                        "seconds": round(found.seconds, 5),
                        "efficiency": round(found.efficiency, 4),
                        "memory_gb": round(found.memory / 1e9, 2),
                    }


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Efficiency against devices: a panel for each place, lines as DDP, dashes as FSDP."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "normfree"  # the same bytes each time
    figure, panels = plt.subplots(
        2, 2, figsize=(8, 6), layout="constrained", sharex=True, sharey=True
    )
    colors = mpl.colormaps["viridis"].resampled(len(NETWORKS))
    for axes, place in zip(panels.flat, PLACES, strict=True):
        for number, name in enumerate(NETWORKS):
            for kind, line in (("ddp", "-"), ("fsdp", "--")):
                wanted = {"place": place, "network": name, "kind": kind}
                own = [row for row in result["results"] if wanted.items() <= row.items()]
                axes.plot(
                    [row["devices"] for row in own],
                    [100 * row["efficiency"] for row in own],
                    line,
                    color=colors(number),
                    linewidth=1.2,
                    label=name.removeprefix("nfnet_").upper() if kind == "ddp" else None,
                )
        axes.set_xscale("log", base=2)
        axes.set_xticks(DEVICES, map(str, DEVICES))
        axes.set_ylim(0, 102)
        axes.set_title(place, fontsize=9)
        axes.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=7, ncols=2, loc="lower left", title="DDP; dashed: FSDP")
    figure.supxlabel(f"{result['device']} devices, 8 in a machine; global batch {BATCH:,}")
    figure.supylabel("efficiency, % (modeled)")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Compute, store and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("--figure", type=Path, help="an .svg or .png to write")
    parser.add_argument("--device", choices=list(DEVICE), default="H100")
    default = Path(__file__).parent / "results" / "2026-11-26_train_nfnet_f0_batch16.json"
    parser.add_argument("--measured", type=Path, default=default, help="a step on one device")
    options = parser.parse_args()
    by = shares(json.loads(options.measured.read_text()))
    first, *others = by
    result = {
        "benchmark": "communication",
        **environment(),
        "device": options.device,
        "measured": [options.measured.name, "table 3 of the paper"],
        "assumed": {
            "share of peak, as on": first,
            "share of peak": by,
            "share of a link's bandwidth": REACHED,
            "seconds to start an operation": START,
            "device": asdict(DEVICE[options.device]),
            "links": {name: asdict(link) for name, link in LINKS.items()},
            "micro-batch": MICRO_BATCH,
        },
        "networks": {name: asdict(network(name)) for name in NETWORKS},
        "results": list(rows(by[first], options.device)),
        "other_shares": {other: list(rows(by[other], options.device)) for other in others},
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.figure:
        draw(result, options.figure)
    for row in result["results"]:
        if row["network"] in ("nfnet_f0", "nfnet_f6") and row["devices"] in (8, 64, 512):
            print(row)


if __name__ == "__main__":
    main()
