"""What else a user could train for one epoch: a tuned ResNet-9, and timm's smallest ResNet.

    pip install --no-deps timm huggingface_hub
    FASHION_MNIST=DIR python -m experiments.peers

Both have batch normalization and the usual short recipe: SGD with Nesterov momentum, one cycle of
the rate, label smoothing, weight decay. Rate and batch size are chosen on the last 6,000 training
images; the chosen ones meet ``t10k`` with five seeds. Images are as they are, as in ``short_1``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timm_standin import install
from experiments.data import FASHION
from experiments.study import DOCS, Line, command_line, put, summary
from normfree.analysis.environment import environment
from normfree.data.sources.idx import read_idx

RESULTS = DOCS / "results" / "peers.jsonl"
HELD_OUT = 6000
GRID = tuple(product((0.05, 0.1, 0.2, 0.4), (64, 128)))  # rate, batch size
MEAN, STD = 72.94, 90.02  # of the training images


def conv(inputs: int, outputs: int) -> nn.Sequential:
    """A normalized 3×3 convolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Sequential):
    """Layers beside the identity."""

    def forward(self, x: Tensor) -> Tensor:
        """Add both."""
        return x + super().forward(x)


def resnet9() -> nn.Module:
    """The ResNet of short CIFAR-10 runs (Page, 2019), as narrow as ``nfnet_nano`` is cheap."""
    w = 12
    return nn.Sequential(
        conv(1, w),
        *(conv(w, 2 * w), nn.MaxPool2d(2), Residual(conv(2 * w, 2 * w), conv(2 * w, 2 * w))),
        *(conv(2 * w, 4 * w), nn.MaxPool2d(2)),
        *(conv(4 * w, 8 * w), nn.MaxPool2d(2), Residual(conv(8 * w, 8 * w), conv(8 * w, 8 * w))),
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8 * w, 10)),
    )


def resnet10t() -> nn.Module:
    """The smallest ResNet of timm that is no test."""
    install()
    import timm

    return timm.create_model("resnet10t", in_chans=1, num_classes=10)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-9, tuned": resnet9,
    "timm's resnet10t, tuned": resnet10t,
}


def images(judged: str) -> tuple[Tensor, ...]:
    """Images and labels that are trained on, and those that judge."""

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        kinds = (("images-idx3", 3), ("labels-idx1", 1))
        x, y = (read_idx(FASHION / f"{split}-{kind}-ubyte.gz", rank) for kind, rank in kinds)
        return (x[:, None].astype(np.float32) - MEAN) / STD, y.astype(np.int64)

    x, y = read("train")
    if judged == "validation":
        parts = (x[:-HELD_OUT], y[:-HELD_OUT], x[-HELD_OUT:], y[-HELD_OUT:])
    else:
        parts = (x, y, *read("t10k"))
    return tuple(map(torch.from_numpy, parts))


def train(network: nn.Module, judged: str, rate: float, batch: int) -> float:
    """One epoch; returns the accuracy on the images that judge."""
    x, y, x_judged, y_judged = images(judged)
    model = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    order = torch.randperm(len(x)).split(batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, len(order), pct_start=0.2, cycle_momentum=False
    )
    model.train()
    for rows in order:
        optimizer.zero_grad()
        logits = model(x[rows].to(memory_format=torch.channels_last))
        nn.functional.cross_entropy(logits, y[rows], label_smoothing=0.1).backward()
        optimizer.step()
        cycle.step()
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in x_judged.split(500)])
    return (found == y_judged).float().mean().item()


def run(name: str, judged: str, rate: float, batch: int, seed: int) -> None:
    """Train and store, unless it is stored."""
    known = {"variant": name, "judged": judged, "rate": rate, "batch": batch, "seed": seed}
    if any(known.items() <= line.items() for line in lines()):
        return
    where = environment()
    torch.manual_seed(seed)
    began = time.process_time()
    line: Line = known | {"top1": train(NETWORKS[name](), judged, rate, batch)}
    line |= {"processor_seconds": round(time.process_time() - began, 1)}
    line |= {key: where[key] for key in ("date", "processor", "threads", "torch", "commit")}
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def lines() -> list[Line]:
    """The finished runs."""
    return [json.loads(x) for x in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def chosen(name: str) -> tuple[float, int]:
    """Rate and batch size of the best run on the images that validate."""
    own = [x for x in lines() if x["variant"] == name and x["judged"] == "validation"]
    best = max(own, key=lambda x: x["top1"])
    return best["rate"], best["batch"]


def write_table() -> None:
    """Each network at its best settings."""
    rows = ["| | rate, batch size | test top-1, % | runs | s a run |", "|---" * 5 + "|"]
    for name in NETWORKS:
        rate, batch = chosen(name)
        wanted = {"variant": name, "judged": "test", "rate": rate, "batch": batch}
        own = [x for x in lines() if wanted.items() <= x.items()]
        seconds = statistics.median(x["processor_seconds"] for x in own)
        reached = summary(own, "top1")
        rows.append(f"| {name} | {rate}, {batch} | {reached} | {len(own)} | {seconds:.0f} |")
    put(DOCS / "short_runs.md", "peers", "\n".join(rows))


if __name__ == "__main__":
    options = command_line(__doc__)
    torch.set_num_threads(1)
    for name in NETWORKS if not options.tables else ():
        for rate, batch in GRID:
            run(name, "validation", rate, batch, 0)
        for seed in range(options.seeds or 5):
            run(name, "test", *chosen(name), seed)
    write_table()
