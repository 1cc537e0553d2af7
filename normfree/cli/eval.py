"""``normfree eval``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from normfree.cli.options import parse
from normfree.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Accuracy of a trained network on the test images of a data source."""

    checkpoint: Positional[Path]
    """A model.safetensors, a checkpoint, a run directory or what normfree export wrote."""
    data: str | None = None
    """Where the images come from. None: what the network was trained on."""
    batch_size: int = 128
    """Images at a time."""
    workers: int = 0
    """Processes that read and decode images."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an unreadable image, or leave it out and count it."""
    json: bool = False
    """Print one JSON object."""


def run(words: Sequence[str]) -> None:
    """Evaluate: ``normfree eval CHECKPOINT [--data SOURCE]``."""
    options = parse(Options, words, prog="normfree eval")
    from normfree.data import BadImages, eval_batches, open_source
    from normfree.train.device import find_device
    from normfree.train.device_transform import DeviceTransform
    from normfree.train.evaluate import evaluate
    from normfree.train.inputs import eval_transform
    from normfree.train.model_file import load_classifier

    device = find_device(options.device)
    classifier = load_classifier(options.checkpoint, device)
    card = classifier.card
    data = options.data or card.get("data")
    if data is None:
        raise UserError(
            f"{options.checkpoint} does not say what it was trained on; name the images to "
            "evaluate it on with --data"
        )
    source = open_source(data, "val", card["classes"])
    warning = compare_with_data(card, data, source.classes, source.channels)
    bad = BadImages()
    batches = eval_batches(
        source,
        eval_transform(card, source),
        options.batch_size,
        workers=options.workers,
        on_bad_image=options.on_bad_image,
        bad_images=bad,
    )
    inputs = DeviceTransform(mean=tuple(card["mean"]), std=tuple(card["std"]), device=device)
    loss = card.get("loss", "softmax")
    result = evaluate({"": classifier.model}, batches, inputs, loss)[""]
    console = Console(soft_wrap=True, highlight=False)
    if warning:
        Console(stderr=True).print(warning, markup=False, highlight=False, soft_wrap=True)
    if options.json:
        found = {"data": data, **dataclasses.asdict(result), "unreadable": bad.names}
        console.print(json.dumps(found), markup=False)
        return
    top5 = "" if result.top5 is None else f"top-5 {result.top5:.2%}, "
    console.print(f"{data}: accuracy {result.top1:.2%}, {top5}loss {result.loss:.4f}", markup=False)
    console.print(f"{result.images} images classified, {bad.count} unreadable", markup=False)


def compare_with_data(
    card: dict[str, Any], data: str, classes: Sequence[str], channels: int
) -> str | None:
    """Check that a network and a data source speak of the same classes and channels.

    Args:
        card: of the network.
        data: how the source was called.
        classes: of the source.
        channels: of its images.

    Returns:
        A warning if the names of the classes differ; they are then compared by position.

    Raises:
        UserError: the number of classes or channels differs.
    """
    known = len(card["classes"])
    if known != len(classes):
        raise UserError(
            f"the network knows {known} classes, but {data} has {len(classes)}; evaluate it on "
            f"data with its classes, or train one with: normfree train folder --data {data}"
        )
    takes = card["model"]["in_channels"]
    if takes != channels:
        raise UserError(
            f"the network takes images of {takes} channels, but those of {data} have {channels}; "
            "evaluate it on images like those it was trained on"
        )
    if list(classes) != list(card["classes"]):
        return (
            f"the classes of {data} have other names than the network's "
            f"({classes[0]} … {classes[-1]}, not {card['classes'][0]} … {card['classes'][-1]}); "
            "they are compared by their position"
        )
    return None
