"""``normfree info``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.schema import record

if TYPE_CHECKING:
    from torch import nn

    from normfree.models import ImageClassifier
    from normfree.weights import Pretrained


_LEGEND = """
MACs: multiply-adds at the test size, which the paper calls FLOPs. train, test: pixels.
drop: dropout before the classifier. RA: magnitude of RandAugment in the paper's recipe.
paper top-1: per cent on ImageNet, as the paper prints it; not measured here."""

_PRETRAINED = """
Published weights, with the top-1 accuracy that is reported for them at px pixels:
--init pretrained (train), pretrained:MODEL (predict, eval, export, convert), or
create_model(MODEL, weights="pretrained"), for the first of a network."""


@record
class Options:
    """The networks, or one of them in detail."""

    model: Annotated[str | None, Positional()] = None
    """Name of a network."""
    system: bool = False
    """Show this machine instead: versions, threads, accelerator, whether C kernels are in use."""
    json: bool = False
    """Print one JSON object, or a list of them."""


def run(words: Sequence[str]) -> None:
    """Show networks: ``normfree info [MODEL | --system] [--json]``."""
    options = parse(Options, words, prog="normfree info")
    if options.system:
        _system(as_json=options.json)
    elif options.model is None:
        _networks(as_json=options.json)
    else:
        _network(options.model, as_json=options.json)


def _system(*, as_json: bool) -> None:
    """Where a run or a measurement takes place, a fact a line."""
    from normfree.analysis.environment import environment

    facts = environment()
    if as_json:
        say(json.dumps(facts))
        return
    for name, value in facts.items():
        say(f"{name:14}{'none' if value is None else value}")


def _networks(*, as_json: bool) -> None:
    """A row for each network; none is built."""
    from normfree.models import PAPER_NOTES, PAPER_TOP1, SUMMARIES
    from normfree.weights import PRETRAINED

    if as_json:
        found = [
            {
                "model": name,
                **summary._asdict(),
                "paper_top1": PAPER_TOP1.get(name),
                "pretrained": [entry._asdict() for entry in PRETRAINED if entry.model == name],
            }
            for name, summary in SUMMARIES.items()
        ]
        say(json.dumps(found))
        return
    table = _table("model", "params", "MACs", "train", "test", "drop", "RA", "paper top-1")
    for name, row in SUMMARIES.items():
        table.add_row(
            name,
            _short(row.parameters, 1),
            _short(row.multiply_adds, 2),
            str(row.train_size),
            str(row.test_size),
            f"{row.drop_rate:g}",
            str(row.randaugment_magnitude or ""),
            PAPER_TOP1.get(name, ""),
        )
    console = Console()
    console.print(table)
    console.print(_LEGEND, highlight=False)
    console.print(_PRETRAINED, highlight=False)
    console.print(_pretrained_table(PRETRAINED))
    console.print()
    for name, note in PAPER_NOTES.items():
        console.print(f"{name}: {note}.", highlight=False)


def _network(name: str, *, as_json: bool) -> None:
    """The configuration of a network, its parts, and how the optimizer treats its parameters."""
    from normfree.factory import create_model
    from normfree.models import PAPER_NOTES
    from normfree.weights import PRETRAINED

    model = create_model(name, device="meta")
    config = asdict(model.config)
    if as_json:
        say(json.dumps({"config": config, "parts": _parts(model), "roles": _roles(model)}))
        return
    for field, value in config.items():
        say(f"{field:25}{value}")
    console = Console()
    if name in PAPER_NOTES:
        console.print(f"\n{PAPER_NOTES[name]}", highlight=False)
    for entry in (entry for entry in PRETRAINED if entry.model == name):
        say(f"\npretrained: {entry.weights}")
        say(f"  {entry.top1:g} % top-1 at {entry.size} px, as reported by {entry.origin}")
        say(f"  license: {entry.licence}")
    for table in (_parts_table(model), _roles_table(model)):
        console.print()
        console.print(table)


def _pretrained_table(entries: Iterable[Pretrained]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "px", "top-1", "weights"):
        table.add_column(heading)
    for entry in entries:
        table.add_row(entry.model, str(entry.size), f"{entry.top1:g}", entry.weights)
    return table


def _short(number: int, digits: int) -> str:
    """As the paper prints sizes: billions or millions.

    >>> _short(12_384_198_656, 2), _short(71_489_284, 1)
    ('12.38B', '71.5M')
    """
    unit, letter = (1e9, "B") if number >= 1e9 else (1e6, "M")
    return f"{number / unit:.{digits}f}{letter}"


def _parts(model: ImageClassifier) -> list[dict[str, Any]]:
    """What each part of a network makes of a test image."""
    import torch

    from normfree.analysis.complexity import count_parameters

    config = model.config
    image = torch.empty(1, config.in_channels, config.test_size, config.test_size, device="meta")
    model.eval()
    maps = model.feature_maps(image)

    def row(name: str, blocks: int | None, output: torch.Tensor, part: nn.Module) -> dict[str, Any]:
        return {
            "part": name,
            "blocks": blocks,
            "channels": output.shape[1],
            "side": output.shape[2] if output.ndim > 2 else 1,
            "parameters": count_parameters(part),
        }

    stages = enumerate(zip(model.stages, maps, strict=True), start=1)
    return [
        row("stem", None, model.stem(image), model.stem),
        *(row(f"stage {n}", len(stage), output, stage) for n, (stage, output) in stages),  # type: ignore[arg-type]
        row("head", None, model.head(maps[-1]), model.head),
        row("classifier", None, model(image), model.classifier),
    ]


def _roles(model: ImageClassifier) -> list[dict[str, Any]]:
    """How the optimizer treats the parameters, by role."""
    from normfree.optim import group_table, param_groups

    return [
        {
            "role": name,
            "tensors": tensors,
            "parameters": scalars,
            "weight_decay": decay,
            "clipping": None if math.isnan(clipping) else clipping,
        }
        for name, tensors, scalars, decay, clipping in group_table(param_groups(model))
    ]


def _parts_table(model: ImageClassifier) -> Table:
    table = _table("part", "blocks", "channels", "side at test, px", "parameters")
    for part in _parts(model):
        name, blocks, channels, side, parameters = part.values()
        table.add_row(name, str(blocks or ""), str(channels), str(side), f"{parameters:,}")
    return table


def _roles_table(model: ImageClassifier) -> Table:
    table = _table("role", "tensors", "parameters", "weight decay", "clipping")
    for role in _roles(model):
        name, tensors, parameters, decay, clipping = role.values()
        limit = "none" if clipping is None else f"{clipping:g}"
        table.add_row(name, str(tensors), f"{parameters:,}", f"{decay:g}", limit)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table
