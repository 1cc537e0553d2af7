"""``normfree predict``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.cli.prediction_file import as_record, check_suffix, write_predictions
from normfree.errors import UsageError, UserError
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.cli.prediction_file import Row
    from normfree.data import BadImages
    from normfree.inference import Predictor


@record
class Options:
    """Classify image files, or all those in directories, with a trained network."""

    checkpoint: Annotated[str, Positional()]
    """A model.safetensors, a checkpoint, a run directory, what normfree export wrote, or
    hf:owner/name."""
    images: Annotated[tuple[Path, ...], Positional()] = ()
    """Image files, or directories: all images in one are classified, at any depth."""
    output: Path | None = None
    """Write the predictions to a .csv, .json or .jsonl file, rather than print them."""
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
    """An unreadable image is named and counted, and the others are classified. error: the command
    then ends with exit code 1; skip: with 0."""


def run(words: Sequence[str]) -> None:
    """Classify: ``normfree predict CHECKPOINT IMAGE|DIR… [--top 5] [--output FILE] [--json]``."""
    options = parse(Options, words, prog="normfree predict")
    _check(options)
    from normfree.data import BadImages
    from normfree.inference import find_images, load, predict_files
    from normfree.inference.preprocess import override_transform

    files = find_images(options.images)
    for link in files.skipped:
        say(f"the linked directory {link} was not followed: it is read already", stderr=True)
    if files.ignored:
        say(f"{files.ignored} files ignored: not named like an image", stderr=True)
    predictor = load(options.checkpoint, options.device, trusted=options.trust)
    predictor.transform = override_transform(
        predictor.transform, options.resize, options.image_dtype
    )
    if options.optimize:
        _optimize(predictor, options.tolerance)
    bad = BadImages()
    top = min(options.top, len(predictor.classes))
    found = predict_files(predictor, files.paths, top, bad=bad)
    count = _write(found, options, top)
    _about_bad(bad, options, count)


def _write(found: Iterable[Row], options: Options, top: int) -> int:
    """Write or print the predictions; returns how many images they are of."""
    if options.output is not None:
        from normfree.weights import check_writable

        count = write_predictions(check_writable(options.output), found, top)
        say(f"wrote {options.output}: {count} images classified")
        return count
    if options.json:
        records = [as_record(*row) for row in found]
        say(json.dumps(records, allow_nan=False))
        return len(records)
    count = 0
    for path, answers in found:
        count += 1
        say(path)
        for guess in answers:
            say(f"  {guess.probability:7.2%}  {guess.label}")
    return count


def _about_bad(bad: BadImages, options: Options, count: int) -> None:
    """Name the images that could not be read.

    Raises:
        UserError: there are some and they are an error, or there is no other image.
    """
    if not bad.count:
        return
    skips, named = options.on_bad_image == "skip", list(bad.reasons.items())
    said = f"{bad.count} of {count + bad.count} images could not be read"
    if len(named) == 1 and not skips:  # one line says it all
        ((name, reason),) = named
        others = f" ({said}; the others were classified)" if count else ""
        raise UserError(f"cannot read image {name}: {reason}{others}")
    for name, reason in named:
        say(f"{'skipped' if skips else 'cannot read image'} {name}: {reason}", stderr=True)
    if not count:
        raise UserError("none of the images could be read")
    if not skips:
        raise UserError(f"{said}; the others were classified (--on-bad-image skip accepts it)")
    say(said, stderr=True)


def _check(options: Options) -> None:
    if not options.images:
        raise UsageError("name at least one image file or directory (see normfree predict --help)")
    if options.top < 1:
        raise UsageError(f"--top must be positive, not {options.top}")
    if options.output is not None:
        check_suffix(options.output)
        if options.json:
            raise UsageError("--json prints and --output writes a file; leave one of them out")
    if options.tolerance is not None and not options.optimize:
        raise UsageError("--tolerance is for --optimize only")


def _optimize(predictor: Predictor, tolerance: float | None) -> None:
    """Choose a form and show what was measured, on standard error: standard output has answers."""
    from normfree.inference.optimize import TOLERANCE

    found = predictor.optimize(tolerance=TOLERANCE if tolerance is None else tolerance)
    for line in str(found).splitlines():
        say(line, stderr=True)
