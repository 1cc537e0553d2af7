"""``normfree bench train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from normfree.cli.bench_output import check_bounds
from normfree.cli.options import parse
from normfree.cli.threads import torch_threads
from normfree.errors import UsageError
from normfree.schema import record

Layout = Literal["contiguous", "channels_last"]
Form = Literal["eager", "compiled", "cuda_graphs"]
Update = Literal["after", "in_backward"]


@record
class Options:
    """Time of a training step on this machine: of a recipe, or of networks on random tensors.

    With --models, a step is forward and backward pass, clipping, update and average, in a plain
    loop on tensors that are on the device, as in appendix A.2 of the paper. Each phase is timed,
    beside what the machine can do at best: its fastest matrix product, and a copy. With --peers,
    timm's same networks are measured, too, with timm's clipping and averages and PyTorch's fused
    SGD: `pip install 'normfree[bench]'`, or `python benchmarks/peers.py train --peers …` in a
    checkout, which needs no torchvision.

    Without --models, a recipe is measured, and the same with other settings: all from the batch in
    memory to the updated averages, with augmentation on the device. Reading images is left out, but
    some are needed: --set data=folder:DIR, where the recipe has none.

    All take turns, so what slows the machine slows all of them.

    For the cost of sharpness-aware minimization: --variants sam_rho=0.05
    sam_rho=0.05,sam_fraction=0.2
    """

    models: tuple[str, ...] = ()
    """Networks to measure on random tensors."""
    batch_size: int = 32
    """With --models: images of a step."""
    size: int | None = None
    """With --models: side of the images, pixels. None: that of each network's training."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """With --models: of the activations; weights are float32."""
    layouts: tuple[Layout, ...] = ("contiguous", "channels_last")
    """With --models: orders of the activations in memory; each network is measured in all."""
    forms: tuple[Form, ...] = ("eager",)
    """With --models: eager, compiled by torch.compile, or that with CUDA graphs."""
    updates: tuple[Update, ...] = ("after",)
    """With --models: when weights are updated, after the backward pass or in_backward, which takes
    less memory; our networks only. `normfree train` does the latter where it can."""

    peers: bool = False
    """With --models: measure timm's same networks, too."""
    others: tuple[str, ...] = ()
    """With --models: other networks of timm, such as efficientnet_b7."""
    twins: bool = False
    """With --models: measure the batch-normalized twin of each network, too."""
    memory: bool = True
    """With --models: measure the peak memory, each in a process of its own."""
    device: str = "cpu"
    """With --models: where to compute."""
    recipe: str = "digits"
    """What to train."""
    set: tuple[str, ...] = ()
    """Settings of the recipe for all, as `name=value`: `model=nfnet_nano batch_size=64`."""
    variants: tuple[str, ...] = ()
    """Other settings to compare with, each `name=value` or several joined by commas."""
    threads: int | None = None
    """Processor cores to use. None: all."""
    rounds: int = 20
    """Times that each is timed."""
    json: Path | None = None
    """Write the numbers, and where they were measured, to this file."""


_OF_NETWORKS = (
    *("batch_size", "size", "precision", "layouts", "forms", "updates", "peers", "others", "twins"),
    *("memory", "device"),
)
_OF_RECIPES = ("recipe", "set", "variants")


def run(words: Sequence[str]) -> None:
    """Measure: ``normfree bench train [--models …] [--recipe NAME] [--json FILE]``."""
    options = parse(Options, words, prog="normfree bench train")
    check_bounds(options, {"rounds": 2, "batch_size": 2, "size": 8})
    _check_mode(options)
    with torch_threads(options.threads):
        if options.models:
            from normfree.cli.bench_networks import measure_networks

            measure_networks(options)
        else:
            from normfree.cli.bench_recipes import measure_recipes

            measure_recipes(options)


def _check_mode(options: Options) -> None:
    """Refuse options of the other mode, which would have no effect."""
    default = Options()
    others = _OF_RECIPES if options.models else _OF_NETWORKS
    for name in others:
        if getattr(options, name) != getattr(default, name):
            flag = f"--{name.replace('_', '-')}"
            instead = "does not go with --models" if options.models else "needs --models"
            raise UsageError(f"{flag} {instead}: see normfree bench train --help")
    for name in ("layouts", "forms", "updates"):
        if not getattr(options, name):
            raise UsageError(f"--{name} needs at least one value")
    if "in_backward" in options.updates and options.precision == "float16":
        raise UsageError("--updates in_backward needs gradients that are not scaled, as float16's")
    if "cuda_graphs" in options.forms and not options.device.startswith("cuda"):
        raise UsageError("--forms cuda_graphs needs --device cuda")
