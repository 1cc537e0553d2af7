"""``normfree export``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from normfree.cli.card_data import card_data
from normfree.cli.export_check import Images, check_images, checked
from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import BadImageError, UsageError, UserError, printable
from normfree.schema import record

if TYPE_CHECKING:
    from torch import Tensor

    from normfree.data import BadImages
    from normfree.inference import Predictor
    from normfree.models import ImageClassifier
    from normfree.weights import ModelCard


@record
class Options:
    """Write a trained network as a file to deploy: plain convolutions, and how to feed them."""

    checkpoint: Annotated[str, Positional()]
    """A model.safetensors, a checkpoint, a run directory or hf:owner/name."""
    out: Annotated[Path, Positional()]
    """OUT.onnx, OUT.pt2 or OUT.safetensors; the ending says which."""
    int8: bool = False
    """Quantize the ONNX file to eight-bit integers."""
    optimize: bool = False
    """Measure the forms that the file can hold on this machine, and write the fastest."""
    tolerance: float | None = None
    """With --optimize: largest error of a logit, divided by the largest logit. None: 0.001, which
    allows float32 only; bfloat16 needs about 0.03, int8 about 0.1 and --data."""
    batch_size: int = 1
    """With --optimize: images at a time that it should be fast for."""
    data: str | None = None
    """Its validation images check the file, and with --int8 its training images measure
    activations. None: what the run was trained on, if it is at hand; a file may only name digits or
    synthetic:N. With --optimize: images to measure errors and int8 on; None: noise, and no int8."""
    calibration_images: int = 256
    """With --int8 or --optimize: how many of them."""
    overwrite: bool = False
    """Replace OUT if it exists; without it, a terminal asks, and anything else is refused."""


def run(words: Sequence[str]) -> None:
    """Export: ``normfree export CHECKPOINT OUT.onnx|OUT.pt2|OUT.safetensors [--int8]``."""
    options = parse(Options, words, prog="normfree export")
    _check(options)
    from normfree.data import BadImages
    from normfree.inference import export_model, load, quantize_onnx
    from normfree.models import ImageClassifier

    predictor = load(_source(options))
    model, card = predictor.model, predictor.card
    if not isinstance(model, ImageClassifier):
        raise AssertionError
    bad, known = BadImages(), check_images(card, options.checkpoint, options.data)
    if options.int8:
        images = _calibration_images(card, options, bad)
        with TemporaryDirectory() as directory:
            exact = Path(directory) / "exact.onnx"
            export_model(model, exact, card)
            quantize_onnx(exact, options.out, images.split(32))
    elif options.optimize:
        _optimize(model, card, options, bad)
    else:
        export_model(model, options.out, card)
    _say_written(predictor, options, known)
    if bad.count:
        say(f"{bad.count} images could not be read, others were measured: {', '.join(bad.names)}")


def _say_written(predictor: Predictor, options: Options, images: Images) -> None:
    """The size of the file, and how far it agrees with the network once it is opened again."""
    from normfree.inference import load

    size = options.out.stat().st_size / 1e6
    say(f"wrote {options.out}, {size:.1f} MB")
    exported = load(options.out, trusted=True).model  # it was written just now
    for line in checked(predictor.model, exported, images, predictor.card, int8=options.int8):
        say(line)


def _check(options: Options) -> None:
    if options.int8 and options.out.suffix != ".onnx":
        raise UsageError("--int8 needs OUT.onnx")
    if options.optimize and options.int8:
        raise UsageError("--optimize considers int8 itself; leave out --int8 and give --data")
    if options.optimize and options.out.suffix not in (".onnx", ".pt2"):
        raise UsageError("--optimize needs OUT.onnx or OUT.pt2")
    if not options.optimize and (options.tolerance is not None or options.batch_size != 1):
        raise UsageError("--tolerance and --batch-size are for --optimize only")
    if options.calibration_images < (4 if options.optimize else 1):
        raise UsageError("--calibration-images must be positive, and at least 4 with --optimize")


def _optimize(model: ImageClassifier, card: ModelCard, options: Options, bad: BadImages) -> None:
    """Write the fastest form that the file can hold, and show what was measured."""
    from normfree.inference import export_optimized
    from normfree.inference.optimize import TOLERANCE

    found = export_optimized(
        model,
        options.out,
        card,
        None if options.data is None else _calibration_images(card, options, bad),
        batch_size=options.batch_size,
        tolerance=TOLERANCE if options.tolerance is None else options.tolerance,
    )
    for line in str(found).splitlines():
        say(line)


def _source(options: Options) -> Path:
    """The file to export, once it is known to be neither exported nor what would be written."""
    from normfree.weights import check_writable, locate

    source = locate(options.checkpoint)
    if source.suffix in (".onnx", ".pt2"):
        raise UserError(f"{options.checkpoint} is exported already; give what it was exported from")
    out = check_writable(options.out)
    if source.exists() and out.exists() and out.samefile(source):
        raise UserError(f"{out} is the source itself; name another file")
    if not options.overwrite:
        _keep(out)
    return source


def _keep(out: Path) -> None:
    """Refuse to replace a file, unless somebody at a terminal agrees.

    Raises:
        UserError: there is one.
    """
    written = [out, *([out.with_suffix(".json")] if out.suffix == ".safetensors" else [])]
    there = next((path for path in written if path.exists()), None)
    if there is None:
        return
    if sys.stdin.isatty():
        sys.stderr.write(f"{printable(str(there))} exists; replace it? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    raise UserError(f"{there} exists and was kept; name another file, or replace it by --overwrite")


def _calibration_images(card: ModelCard, options: Options, bad: BadImages) -> Tensor:
    """Training images, chosen at random but always the same, as the network takes them.

    Others take the place of those that cannot be read, which are added to ``bad``.
    """
    import numpy as np

    from normfree.data import open_source
    from normfree.inference import card_transform, source_transform
    from normfree.inference.preprocess import CardInputs, stack

    data = options.data or card_data(card, options.checkpoint, "measure activations on")
    source = open_source(data, "train", val_fraction=card.val_fraction)
    transform = source_transform(card_transform(card), source)
    images: list[np.ndarray] = []
    for index in np.random.default_rng(0).permutation(len(source)).tolist():
        try:
            images.append(source.image(index))
        except BadImageError as error:
            bad.add(error)
        if len(images) == options.calibration_images:
            break
    if not images:
        raise UserError(f"none of the {bad.count} images of {data} can be read")
    if transform is not None:
        images = [transform(image, None) for image in images]
    return CardInputs(card, "cpu").normalize(stack(images))
