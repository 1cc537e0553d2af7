"""``normfree info``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from normfree.cli.options import parse

if TYPE_CHECKING:
    from torch import nn

    from normfree.models import ImageClassifier


@dataclass(frozen=True, kw_only=True)
class Options:
    """The networks, or one of them in detail."""

    model: Positional[str | None] = None
    """Name of a network."""


def run(words: Sequence[str]) -> None:
    """Show networks: ``normfree info [MODEL]``."""
    options = parse(Options, words, prog="normfree info")
    from normfree.factory import create_model
    from normfree.models import list_models

    console = Console()
    if options.model is None:
        console.print(_all_models([create_model(name, device="meta") for name in list_models()]))
        return
    model = create_model(options.model, device="meta")
    for name, value in asdict(model.config).items():
        console.print(f"{name:22}{value}", markup=False, highlight=False)
    for table in (_stages(model), _groups(model)):
        console.print()
        console.print(table)


def _all_models(models: Sequence[ImageClassifier]) -> Table:
    table = _table("model", "parameters", "train px", "test px", "dropout", "blocks")
    for model in models:
        config = model.config
        table.add_row(
            config.name,
            f"{_parameters(model):,}",
            str(config.train_size),
            str(config.test_size),
            f"{config.drop_rate:g}",
            " ".join(str(len(stage)) for stage in model.stages),  # type: ignore[arg-type]
        )
    return table


def _stages(model: ImageClassifier) -> Table:
    """What each part of a network makes of a test image."""
    import torch

    config = model.config
    image = torch.empty(1, config.in_channels, config.test_size, config.test_size, device="meta")
    model.eval()
    maps = model.feature_maps(image)
    table = _table("part", "blocks", "channels", "side at test, px", "parameters")

    def add(name: str, blocks: str, output: torch.Tensor, part: nn.Module) -> None:
        channels, side = output.shape[1], output.shape[2] if output.ndim > 2 else 1
        table.add_row(name, blocks, str(channels), str(side), f"{_parameters(part):,}")

    add("stem", "", model.stem(image), model.stem)
    for number, (stage, output) in enumerate(zip(model.stages, maps, strict=True), start=1):
        add(f"stage {number}", str(len(stage)), output, stage)  # type: ignore[arg-type]
    add("head", "", model.head(maps[-1]), model.head)
    add("classifier", "", model(image), model.classifier)
    return table


def _groups(model: ImageClassifier) -> Table:
    """How the optimizer treats the parameters, by role."""
    from normfree.optim import group_table, param_groups

    table = _table("role", "tensors", "parameters", "weight decay", "clipping")
    for name, tensors, scalars, decay, clipping in group_table(param_groups(model)):
        limit = "none" if math.isnan(clipping) else f"{clipping:g}"
        table.add_row(name, str(tensors), f"{scalars:,}", f"{decay:g}", limit)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
