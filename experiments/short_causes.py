"""Why a batch-normalized twin is ahead in the first steps, one change at a time.

    FASHION_MNIST=DIR python -m experiments.short_causes

``nfnet_nano`` and its twin under Muon, on the first 9,000 or 27,000 training images of
Fashion-MNIST, once each, judged on the last 6,000; what matters most, with five seeds. A bare loop,
since some changes are no settings of a recipe. Runs that are stored are not run again.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from experiments.data import FASHION
from experiments.normalized_in_part import Centered, PartlyDetached, put_before
from experiments.study import DOCS, Line, put
from normfree import create_model
from normfree.analysis.environment import environment
from normfree.data.sources.idx import read_idx
from normfree.nn import BatchNormActivation, SameConv2d, calibrate_gains
from normfree.optim import Muon, param_groups

RESULTS = DOCS / "results" / "short_causes.jsonl"
HELD_OUT = 6000
SEEN = ("stem.conv0", "stem.conv3", "stages.2.0.conv2", "stages.3.0.conv2", "head.conv")


class Variant(NamedTuple):
    """What is changed of the network or the optimizer.

    ``normalized`` and ``centered`` are patterns of activations: what is normalized by the batch
    before them, or freed of its mean, by a running one with ``decay`` or without the ``gradient``.
    """

    twin: bool = False
    calibrated: bool = False
    open: bool = False
    plain_stem: bool = False
    detached: tuple[str, ...] = ()
    normalized: str = ""
    centered: str = ""
    decay: float = 0.0
    gradient: bool = True
    lr: float = 0.03
    batch: int = 128
    adam_ratio: float = 0.1
    rates: tuple[tuple[str, float], ...] = ()


NET, TWIN, CALIBRATED = Variant(), Variant(twin=True), Variant(calibrated=True)
CHOSEN = CALIBRATED._replace(adam_ratio=0.3, batch=64, lr=0.02)
STEM, HEAD = r"^stem", r"^head"
INPUTS, BRANCHES = r"^stages.*\.act0$", r"^stages.*\.act(1|1b|2)$"

#: Images trained on → what a row is called → the change.
VARIANTS: dict[int, dict[str, Variant]] = {
    9_000: {
        "twin": TWIN,
        "twin, no gradient through σ": TWIN._replace(detached=("std",)),
        "twin, no gradient through μ and σ": TWIN._replace(detached=("mean", "std")),
        "calibrated": CALIBRATED,
        "calibrated, branches open (α = gain = 1)": CALIBRATED._replace(open=True),
        "calibrated, first convolution not standardized": CALIBRATED._replace(plain_stem=True),
        "calibrated, first convolution not standardized, branches open": CALIBRATED._replace(
            plain_stem=True, open=True
        ),
        "calibrated, first convolution not standardized, Adam's rate × 3": CALIBRATED._replace(
            plain_stem=True, adam_ratio=0.3
        ),
        "calibrated, rate 0.02": CALIBRATED._replace(lr=0.02),
        "calibrated, SkipInit gains' rate × 10": CALIBRATED._replace(rates=(("skip_gain", 10),)),
        "calibrated, gains' rate × 5": CALIBRATED._replace(rates=(("gain", 5),)),
        "calibrated, Adam's rate × 3": CALIBRATED._replace(adam_ratio=0.3),
        **{
            f"calibrated, Adam's rate × 3, normalized {place}": CALIBRATED._replace(
                adam_ratio=0.3, normalized=where
            )
            for place, where in (
                ("in the stem", STEM),
                ("within branches", BRANCHES),
                ("at the inputs of blocks", INPUTS),
                ("in the head", HEAD),
            )
        },
        "calibrated, Adam's rate × 3, batch mean subtracted in the head": CALIBRATED._replace(
            adam_ratio=0.3, centered=HEAD
        ),
    },
    27_000: {
        "without normalization": NET,
        "twin": TWIN,
        "branches open": NET._replace(open=True),
        "calibrated": CALIBRATED,
        "calibrated, branches open": CALIBRATED._replace(open=True),
        "calibrated, branches open, rate 0.01": CALIBRATED._replace(open=True, lr=0.01),
        "calibrated, Adam's rate × 3": CALIBRATED._replace(adam_ratio=0.3),
        "calibrated, Adam's rate × 3, SkipInit gains' × 15": CALIBRATED._replace(
            adam_ratio=0.3, rates=(("skip_gain", 5),)
        ),
        "calibrated, Adam's rate × 3, batch 64, rate 0.02": CHOSEN,
        "twin, batch 64, rate 0.02": TWIN._replace(batch=64, lr=0.02),
        "twin, batch 64, rate 0.02, Adam's rate × 3": CHOSEN._replace(twin=True, calibrated=False),
        "ours at batch 64, normalized in the head": CHOSEN._replace(normalized=HEAD),
        "ours at batch 64, normalized at the inputs of blocks": CHOSEN._replace(normalized=INPUTS),
        "ours at batch 64, batch mean subtracted there": CHOSEN._replace(centered=INPUTS),
        "the same, no gradient through it": CHOSEN._replace(centered=INPUTS, gradient=False),
        "running mean subtracted, no gradient": CHOSEN._replace(
            centered=INPUTS, decay=0.9, gradient=False
        ),
        "running mean subtracted, gradients centered": CHOSEN._replace(centered=INPUTS, decay=0.9),
    },
}

#: What is run with several seeds, on the larger number of images.
SEEDED = (
    "calibrated, Adam's rate × 3, batch 64, rate 0.02",
    "ours at batch 64, normalized at the inputs of blocks",
    "ours at batch 64, batch mean subtracted there",
    "the same, no gradient through it",
    "running mean subtracted, gradients centered",
    "twin, batch 64, rate 0.02, Adam's rate × 3",
)
SEEDS = 5


def images_and_labels() -> tuple[Tensor, Tensor]:
    """The training images, normalized, and their labels."""
    pixels = torch.tensor(read_idx(FASHION / "train-images-idx3-ubyte.gz", 3)).float()
    labels = read_idx(FASHION / "train-labels-idx1-ubyte.gz", 1).astype(np.int64)
    seen = pixels[:-HELD_OUT]
    pixels = ((pixels - seen.mean()) / seen.std())[:, None]
    return pixels.contiguous(memory_format=torch.channels_last), torch.tensor(labels)


def network(variant: Variant, images: Tensor, seed: int) -> Any:
    """The network before its first step."""
    torch.manual_seed(seed)
    changes: dict[str, Any] = {"normalization": "batch"} if variant.twin else {}
    changes |= {"alpha": 1.0} if variant.open else {}
    rates = {"drop_rate": 0.0, "stochastic_depth_rate": 0.0}
    model: Any = create_model("nfnet_nano", num_classes=10, in_channels=1, **rates, **changes)
    for name, parameter in model.named_parameters():
        if variant.open and name.endswith("skip_gain"):
            nn.init.ones_(parameter)
    if variant.plain_stem:
        conv = model.stem.conv0
        model.stem.conv0 = plain = SameConv2d(1, conv.out_channels, 3, conv.stride)
        with torch.no_grad():
            plain.weight /= plain(images[:512]).std()
    if variant.detached:
        for module in model.modules():
            if isinstance(module, BatchNormActivation):
                module.norm = PartlyDetached(module.norm, variant.detached)  # type: ignore[assignment]
    if variant.normalized:
        put_before(model, variant.normalized, nn.LazyBatchNorm2d)
    if variant.centered:
        centered = partial(Centered, variant.decay, gradient=variant.gradient)
        put_before(model, variant.centered, centered)
    if variant.calibrated:
        calibrate_gains(model, images[:512])
    return model.to(memory_format=torch.channels_last)


def optimizer(model: nn.Module, variant: Variant) -> Muon:
    """Muon, with a group for each leaf name, whose rate may be another."""
    factors, parted = dict(variant.rates), []
    for group in param_groups(model, weight_decay=2e-5, clipping=None):
        by_leaf: dict[str, list[Tensor]] = {}
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            by_leaf.setdefault(name.rpartition(".")[2], []).append(parameter)
        for leaf, params in by_leaf.items():
            ratio = variant.adam_ratio * factors.get(leaf, 1)
            orthogonal = group["name"] != "classifier weight"
            parted.append(
                {"params": params, "weight_decay": group["weight_decay"], "name": leaf}
                | {"orthogonal": orthogonal, "adam_ratio": ratio}
            )
    return Muon(parted, lr=variant.lr)


def schedule(step: int, total: int) -> float:
    """A tenth of the run to warm up, then half a cosine; the rate as a share of its peak."""
    warmup = 0.1 * total
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def deviations(model: nn.Module, images: Tensor) -> dict[str, float]:
    """σ of what some convolutions put out, in training mode."""
    found: dict[str, float] = {}

    def seeing(name: str) -> Callable[..., None]:
        def see(_: nn.Module, __: Any, y: Tensor) -> None:
            found[name] = round(float(y.std((0, 2, 3)).mean()), 3)

        return see

    handles = [model.get_submodule(name).register_forward_hook(seeing(name)) for name in SEEN]
    with torch.no_grad():
        model.train()(images)
    for handle in handles:
        handle.remove()
    return found


def trained(variant: Variant, count: int, images: Tensor, labels: Tensor, seed: int) -> Line:
    """Train once over the first images; what was reached."""
    began, model = time.process_time(), network(variant, images, seed)
    total, losses = count // variant.batch, []
    judging = images[-HELD_OUT:]
    found: Line = {"sigma_first": deviations(model, judging[:256])}
    moved, order = optimizer(model, variant), torch.randperm(count)
    for step, rows in zip(range(total), order.split(variant.batch), strict=False):
        for group in moved.param_groups:
            group["lr"] = variant.lr * schedule(step, total)
        logits = model(images[rows])
        moved.zero_grad()
        F.cross_entropy(logits, labels[rows], label_smoothing=0.1).backward()
        moved.step()
        losses.append(float(F.cross_entropy(logits.detach(), labels[rows])))
    quarters = [losses[k * total // 4 : (k + 1) * total // 4] for k in range(4)]
    found["losses"] = [round(sum(part) / len(part), 3) for part in quarters]
    found["sigma"] = deviations(model, judging[:256])
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(part) for part in judging.split(500)])
    truth = labels[-HELD_OUT:]
    found["top1"] = round(float((answers.argmax(1) == truth).float().mean()), 4)
    found["loss"] = round(float(F.cross_entropy(answers, truth)), 4)
    return found | {"processor_seconds": round(time.process_time() - began, 1)}


def table(lines: list[Line]) -> str:
    """A row for each run."""
    head = ("", "images", "loss, first quarter", "last quarter", "top-1, %", "loss")
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for line in lines:
        first, *_, last = line["losses"]
        numbers = f"{first:.2f} | {last:.3f} | {100 * line['top1']:.1f} | {line['loss']:.3f}"
        rows.append(f"| {line['variant']} | {line['images']:,} | {numbers} |")
    return "\n".join(rows)


def signal(lines: list[Line]) -> str:
    """σ by layer before the first and after the last step."""
    rows = [f"| | | {' | '.join(f'`{name}`' for name in SEEN)} |", "|---" * (len(SEEN) + 2) + "|"]
    for line in lines:
        for when, key in (("before", "sigma_first"), ("after", "sigma")):
            if key in line and line["images"] == min(VARIANTS):
                cells = [f"{line[key][name]:.2f}" for name in SEEN]
                rows.append(f"| {line['variant']} | {when} | {' | '.join(cells)} |")
    return "\n".join(rows)


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation."""
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def seeded(lines: list[Line]) -> str:
    """Mean ± standard deviation over the seeds."""
    rows = ["| | top-1, % | loss | runs |", "|---" * 4 + "|"]
    for name in SEEDED:
        own = [x for x in lines if x["variant"] == name and x["images"] == max(VARIANTS)]
        accuracy = spread([100 * x["top1"] for x in own], 2)
        rows.append(f"| {name} | {accuracy} | {spread([x['loss'] for x in own], 3)} | {len(own)} |")
    return "\n".join(rows)


def wanted() -> list[tuple[int, str, int]]:
    """Images, row and seed of every run, in the order of the tables."""
    once = [(count, name, 0) for count, variants in VARIANTS.items() for name in variants]
    return once + [(max(VARIANTS), name, seed) for seed in range(1, SEEDS) for name in SEEDED]


def main() -> None:
    """Run what is missing, then write the tables."""
    torch.set_num_threads(1)
    stored = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    done, where = {(x["images"], x["variant"], x["seed"]) for x in stored}, environment()
    missing = [run for run in wanted() if run not in done]
    images, labels = images_and_labels() if missing else (torch.empty(0), torch.empty(0))
    for count, name, seed in missing:
        line = {"variant": name, "images": count, "seed": seed}
        line |= {key: where[key] for key in ("date", "processor", "threads", "torch", "commit")}
        stored.append(line | trained(VARIANTS[count][name], count, images, labels, seed))
        with RESULTS.open("a") as file:
            file.write(json.dumps(stored[-1]) + "\n")
    stored.sort(key=lambda x: wanted().index((x["images"], x["variant"], x["seed"])))
    first = [line for line in stored if line["seed"] == 0]
    page = DOCS / "short_runs.md"
    put(page, "short_causes", table(first))
    put(page, "short_signal", signal(first))
    put(page, "short_causes_seeds", seeded(stored))


if __name__ == "__main__":
    main()
