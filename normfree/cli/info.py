"""``normfree info``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table

from normfree.cli.options import Positional, parse
from normfree.schema import record

if TYPE_CHECKING:
    from torch import nn

    from normfree.models import ImageClassifier


_LEGEND = """
MACs: multiply-adds at the test size, which the paper calls FLOPs. train, test: pixels.
drop: dropout before the classifier. RA: magnitude of RandAugment in the paper's recipe.
paper top-1: per cent on ImageNet, as the paper prints it; not measured here."""


@record
class Options:
    """The networks, or one of them in detail."""

    model: Annotated[str | None, Positional()] = None
    """Name of a network."""
    system: bool = False
    """Show this machine instead: versions, threads, accelerator, whether C kernels are in use."""


def run(words: Sequence[str]) -> None:
    """Show networks: ``normfree info [MODEL | --system]``."""
    options = parse(Options, words, prog="normfree info")
    console = Console()
    if options.system:
        _system(console)
        return
    from normfree.factory import create_model
    from normfree.models import PAPER_NOTES

    if options.model is None:
        console.print(_all_models())
        console.print(_LEGEND, highlight=False)
        for name, note in PAPER_NOTES.items():
            console.print(f"{name}: {note}.", highlight=False)
        return
    model = create_model(options.model, device="meta")
    for name, value in asdict(model.config).items():
        console.print(f"{name:22}{value}", markup=False, highlight=False)
    if options.model in PAPER_NOTES:
        console.print(f"\n{PAPER_NOTES[options.model]}", highlight=False)
    for table in (_stages(model), _groups(model)):
        console.print()
        console.print(table)


def _system(console: Console) -> None:
    """Where a run or a measurement takes place, a fact a line."""
    from normfree.analysis.environment import environment

    for name, value in environment().items():
        shown = "none" if value is None else value
        console.print(f"{name:14}{shown}", markup=False, highlight=False, soft_wrap=True)


def _all_models() -> Table:
    """A row for each network."""
    from normfree.analysis.complexity import count_macs, count_parameters
    from normfree.factory import create_model
    from normfree.models import PAPER_TOP1, list_models

    table = _table("model", "params", "MACs", "train", "test", "drop", "RA", "paper top-1")
    for name in list_models():
        model = create_model(name, device="meta")
        config = model.config
        table.add_row(
            name,
            _short(count_parameters(model), 1),
            _short(count_macs(model, config.test_size), 2),
            str(config.train_size),
            str(config.test_size),
            f"{config.drop_rate:g}",
            str(config.randaugment_magnitude or ""),
            PAPER_TOP1.get(name, ""),
        )
    return table


def _short(number: int, digits: int) -> str:
    """As the paper prints sizes: billions or millions.

    >>> _short(12_384_198_656, 2), _short(71_489_284, 1)
    ('12.38B', '71.5M')
    """
    unit, letter = (1e9, "B") if number >= 1e9 else (1e6, "M")
    return f"{number / unit:.{digits}f}{letter}"


def _stages(model: ImageClassifier) -> Table:
    """What each part of a network makes of a test image."""
    import torch

    from normfree.analysis.complexity import count_parameters

    config = model.config
    image = torch.empty(1, config.in_channels, config.test_size, config.test_size, device="meta")
    model.eval()
    maps = model.feature_maps(image)
    table = _table("part", "blocks", "channels", "side at test, px", "parameters")

    def add(name: str, blocks: str, output: torch.Tensor, part: nn.Module) -> None:
        channels, side = output.shape[1], output.shape[2] if output.ndim > 2 else 1
        table.add_row(name, blocks, str(channels), str(side), f"{count_parameters(part):,}")

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
