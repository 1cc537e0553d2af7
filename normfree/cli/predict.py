"""``normfree predict``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from tyro.conf import Positional

from normfree.cli.options import UsageError, parse
from normfree.errors import BadImageError, UserError

if TYPE_CHECKING:
    from normfree.train.model_file import Classifier


@dataclass(frozen=True, kw_only=True)
class Options:
    """Classify image files with a trained network."""

    checkpoint: Positional[Path]
    """A model.safetensors, a checkpoint, a run directory or what normfree export wrote."""
    images: Positional[tuple[Path, ...]] = ()
    """Image files."""
    top: int = 5
    """How many classes to name for each image."""
    json: bool = False
    """Print one JSON list."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an unreadable image, or leave it out and name it at the end."""


def run(words: Sequence[str]) -> None:
    """Classify: ``normfree predict CHECKPOINT IMAGE… [--top 5] [--json]``."""
    options = parse(Options, words, prog="normfree predict")
    if not options.images:
        raise UsageError("name at least one image file (see normfree predict --help)")
    if options.top < 1:
        raise UsageError(f"--top must be positive, not {options.top}")
    from normfree.train.device import find_device
    from normfree.train.model_file import load_classifier

    device = find_device(options.device)
    classifier = load_classifier(options.checkpoint, device)
    found, bad = [], []
    for path in options.images:
        try:
            found.append(
                {"image": str(path), "classes": _classify(classifier, path, device, options.top)}
            )
        except BadImageError as error:
            if options.on_bad_image == "error":
                raise
            bad.append(error)
    _show(found, as_json=options.json)
    for skipped in bad:
        Console(stderr=True).print(
            f"skipped {skipped.name}: {skipped.reason}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if not found:
        raise UserError("none of the images could be read")


def _classify(classifier: Classifier, path: Path, device: str, top: int) -> list[dict[str, Any]]:
    """The ``top`` likeliest classes of an image, with their probabilities."""
    import torch

    from normfree.augment import normalize
    from normfree.data import decode
    from normfree.train.inputs import card_transform

    card = classifier.card
    image = decode(path, channels=card["model"]["in_channels"])
    x = torch.from_numpy(card_transform(card)(image)).permute(2, 0, 1)[None].to(device)
    with torch.no_grad():
        logits = classifier.model(normalize(x, card["mean"], card["std"]))
    # A network may have more outputs than the data had classes: those have no name.
    logits = logits[0].float()
    found = logits.sigmoid() if card.get("loss") == "sigmoid" else logits.softmax(dim=0)
    probabilities = found[: len(card["classes"])]
    values, indices = probabilities.topk(min(top, len(probabilities)))
    return [
        {"class": card["classes"][index], "probability": value}
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]


def _show(found: list[dict[str, Any]], *, as_json: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print(json.dumps(found, ensure_ascii=False), markup=False)
        return
    for image in found:
        console.print(image["image"], markup=False)
        for guess in image["classes"]:
            console.print(f"  {guess['probability']:7.2%}  {guess['class']}", markup=False)
