"""``normfree eval``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

from normfree.cli.card_data import card_data
from normfree.cli.eval_output import Found
from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import UsageError, UserError, printable
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.data import EvalTransform, Source
    from normfree.inference import Predictor
    from normfree.weights import ModelCard

_LARGEST = 4096  # pixels of a side


@record
class Options:
    """Accuracy of a trained network on the images of a data source."""

    checkpoint: Annotated[str, Positional()]
    """A model.safetensors, a checkpoint, a run directory, what normfree export wrote, or
    hf:owner/name."""
    data: str | None = None
    """Where the images come from. None: what the run was trained on. A file may only name digits
    or synthetic:N; a path in one is never opened."""
    split: str = "val"
    """val: the images that a run is validated on; test: those held out, if the source has any."""
    val_fraction: float | None = None
    """Part of each class that validates if the source has no validation images of its own; the
    rest was trained on. None: as when the network was trained."""
    test_size: int | None = None
    """Side of the network's input, pixels; the margin around the center crop follows by the rule of
    the network. None: the network's own, which it was validated at."""
    resize: Literal["tensorflow", "bicubic", "bilinear"] | None = None
    """The filter. None: the network's own, which it was trained with."""
    image_dtype: Literal["float32", "uint8"] | None = None
    """Of resized images. None: the network's own."""
    batch_size: int = 128
    """Images at a time."""
    workers: int = 0
    """Processes that read and decode images."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""
    trust: bool = False
    """Open a .pt2 file: PyTorch's reader can run code from one, so say that you trust its maker."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an unreadable image, or leave it out and count it."""
    all_classes: bool = False
    """Show every class, rather than the worst if there are many."""
    json: bool = False
    """Print one JSON object."""


def run(words: Sequence[str]) -> None:
    """Evaluate: ``normfree eval CHECKPOINT [--data SOURCE]``."""
    options = parse(Options, words, prog="normfree eval")
    if options.batch_size < 1 or options.workers < 0:
        raise UsageError("--batch-size must be positive and --workers not negative")
    if options.test_size is not None and not 1 <= options.test_size <= _LARGEST:
        raise UsageError(f"--test-size must be from 1 to {_LARGEST}; got {options.test_size}")
    from normfree.data import BadImages, eval_batches
    from normfree.inference import METRICS, evaluate, load, source_transform
    from normfree.inference.class_scores import Confusion
    from normfree.inference.preprocess import override_transform

    predictor = load(options.checkpoint, options.device, trusted=options.trust)
    card = predictor.card
    data = options.data or card_data(card, options.checkpoint, "evaluate it on")
    source = _open(data, options, card)
    transform = override_transform(
        _resized(predictor, options), options.resize, options.image_dtype
    )
    warning = compare_with_data(card, data, source.classes, source.channels)
    bad, confusion = BadImages(), Confusion()
    batches = eval_batches(
        source,
        source_transform(transform, source),
        options.batch_size,
        workers=options.workers,
        on_bad_image=options.on_bad_image,
        bad_images=bad,
    )
    result = evaluate(
        {"": predictor.model},
        batches,
        predictor.inputs,
        card.loss,
        {**METRICS, "confusion": confusion.see},
    )[""]
    if warning:
        say(warning, stderr=True)
    if not math.isfinite(result["loss"]):
        say(f"{options.checkpoint} gives logits that are not finite: did it diverge?", stderr=True)
    found = Found(data, result, source.classes, confusion, transform.size, transform.margin)
    if options.json:
        shown = found.plain() | {"unreadable": bad.names}
        say(json.dumps(shown, allow_nan=False))
        return
    for line in found.lines(everything=options.all_classes):
        say(line)
    say(f"{result.images} images classified, {bad.count} unreadable")


def _resized(predictor: Predictor, options: Options) -> EvalTransform:
    """The preprocessing at ``--test-size``."""
    from normfree.inference.preprocess import resized_transform
    from normfree.models import ImageClassifier

    transform, size = predictor.transform, options.test_size
    if size is None or size == transform.size:
        return transform
    if not isinstance(predictor.trained, ImageClassifier):
        raise UserError(
            f"{options.checkpoint} takes images of {transform.size} pixels only: an exported graph "
            "has one size; evaluate the weights that it was exported from"
        )
    return resized_transform(transform, size)


def _open(data: str, options: Options, card: ModelCard) -> Source:
    """A split of a source, which need not have every one."""
    from normfree.data import open_source
    from normfree.data.sources import Split

    fraction = card.val_fraction if options.val_fraction is None else options.val_fraction
    known = [name for name in get_args(Split) if name != "train"]
    if options.split not in known:
        raise UsageError(f"--split must be {' or '.join(known)}; got {options.split}")
    split = cast("Split", options.split)
    return open_source(
        data, split, card.classes, on_bad_image=options.on_bad_image, val_fraction=fraction
    )


def compare_with_data(
    card: ModelCard, data: str, classes: Sequence[str], channels: int
) -> str | None:
    """Check that a network and a data source have the same classes and channels.

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
    own = card.classes or ()
    if len(own) != len(classes):
        raise UserError(
            f"the network knows {len(own)} classes, but {data} has {len(classes)}; evaluate it on "
            f"data with its classes, or train one with: normfree train folder --data {data}"
        )
    if card.channels != channels:
        raise UserError(
            f"the network takes images of {card.channels} channels, but those of {data} have "
            f"{channels}; evaluate it on images like those it was trained on"
        )
    if tuple(classes) != own:
        ends = [printable(name, 80) for name in (classes[0], classes[-1], own[0], own[-1])]
        return (
            f"the classes of {data} have other names than the network's "
            f"({ends[0]} … {ends[1]}, not {ends[2]} … {ends[3]}); they are compared by their "
            "position"
        )
    return None
