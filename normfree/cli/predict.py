"""``normfree predict``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import BadImageError, UsageError, UserError
from normfree.schema import record


@record
class Options:
    """Classify image files with a trained network."""

    checkpoint: Annotated[str, Positional()]
    """A model.safetensors, a checkpoint, a run directory, what normfree export wrote, or
    hf:owner/name."""
    images: Annotated[tuple[Path, ...], Positional()] = ()
    """Image files."""
    top: int = 5
    """How many classes to name for each image."""
    json: bool = False
    """Print one JSON list."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""
    trust: bool = False
    """Open a .pt2 file: PyTorch's reader can run code from one, so say that you trust its maker."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an unreadable image, or leave it out and name it at the end."""


def run(words: Sequence[str]) -> None:
    """Classify: ``normfree predict CHECKPOINT IMAGE… [--top 5] [--json]``."""
    options = parse(Options, words, prog="normfree predict")
    if not options.images:
        raise UsageError("name at least one image file (see normfree predict --help)")
    if options.top < 1:
        raise UsageError(f"--top must be positive, not {options.top}")
    from normfree.inference import load

    predictor = load(options.checkpoint, options.device, trusted=options.trust)
    found, bad = [], []
    for path in options.images:
        try:
            (likeliest,) = predictor.predict(path, options.top)
        except BadImageError as error:
            if options.on_bad_image == "error":
                raise
            bad.append(error)
        else:
            classes = [{"class": c.label, "probability": c.probability} for c in likeliest]
            found.append({"image": str(path), "classes": classes})
    _show(found, as_json=options.json)
    for skipped in bad:
        say(f"skipped {skipped.name}: {skipped.reason}", stderr=True)
    if not found:
        raise UserError("none of the images could be read")


def _show(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(found, allow_nan=False))
        return
    for image in found:
        say(image["image"])
        for guess in image["classes"]:
            say(f"  {guess['probability']:7.2%}  {guess['class']}")
