"""``normfree predict``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import BadImageError, UsageError, UserError
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.inference import Predictor


@record
class Options:
    """Classify image files with a trained network."""

    checkpoint: Annotated[str, Positional()]
    """A model.safetensors, a checkpoint, a run directory, what normfree export wrote, or
    hf:owner/name."""
    images: Annotated[tuple[Path, ...], Positional()] = ()
    """Image files."""
    resize: Literal["tensorflow", "bicubic", "bilinear"] | None = None
    """The filter. None: the network's own, which it was trained with."""
    image_dtype: Literal["float32", "uint8"] | None = None
    """Of resized images. None: the network's own."""
    top: int = 5
    """How many classes to name for each image."""
    json: bool = False
    """Print one JSON list."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""
    trust: bool = False
    """Open a .pt2 file: PyTorch's reader can run code from one, so say that you trust its maker."""
    optimize: bool = False
    """Measure forms of the network on this machine first, and predict with the fastest."""
    tolerance: float | None = None
    """With --optimize: largest error of a logit, divided by the largest logit. None: 0.001, which
    allows float32 only."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an unreadable image, or leave it out and name it at the end."""


def run(words: Sequence[str]) -> None:
    """Classify: ``normfree predict CHECKPOINT IMAGE… [--top 5] [--json]``."""
    options = parse(Options, words, prog="normfree predict")
    _check(options)
    from normfree.inference import load
    from normfree.inference.preprocess import override_transform

    predictor = load(options.checkpoint, options.device, trusted=options.trust)
    predictor.transform = override_transform(
        predictor.transform, options.resize, options.image_dtype
    )
    if options.optimize:
        _optimize(predictor, options.tolerance)
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


def _check(options: Options) -> None:
    if not options.images:
        raise UsageError("name at least one image file (see normfree predict --help)")
    if options.top < 1:
        raise UsageError(f"--top must be positive, not {options.top}")
    if options.tolerance is not None and not options.optimize:
        raise UsageError("--tolerance is for --optimize only")


def _optimize(predictor: Predictor, tolerance: float | None) -> None:
    """Choose a form and show what was measured, on standard error: standard output has answers."""
    from normfree.inference.optimize import TOLERANCE

    found = predictor.optimize(tolerance=TOLERANCE if tolerance is None else tolerance)
    for line in str(found).splitlines():
        say(line, stderr=True)


def _show(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(found, allow_nan=False))
        return
    for image in found:
        say(image["image"])
        for guess in image["classes"]:
            say(f"  {guess['probability']:7.2%}  {guess['class']}")
