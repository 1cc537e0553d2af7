"""``normfree export``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tyro.conf import Positional

from normfree.cli.options import UsageError, parse
from normfree.errors import BadImageError, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from normfree.data import BadImages


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write a trained network as a file to deploy: plain convolutions, and how to feed them."""

    checkpoint: Positional[Path]
    """A model.safetensors, a checkpoint or a run directory."""
    out: Positional[Path]
    """OUT.onnx, OUT.pt2 or OUT.safetensors; the ending says which."""
    int8: bool = False
    """Quantize the ONNX file to eight-bit integers."""
    data: str | None = None
    """With --int8: images to measure activations on. None: what the network was trained on."""
    calibration_images: int = 256
    """With --int8: how many of them."""


def run(words: Sequence[str]) -> None:
    """Export: ``normfree export CHECKPOINT OUT.onnx|OUT.pt2|OUT.safetensors [--int8]``."""
    options = parse(Options, words, prog="normfree export")
    if options.int8 and options.out.suffix != ".onnx":
        raise UsageError("--int8 needs OUT.onnx")
    if not options.int8 and options.data is not None:
        raise UsageError("--data is for --int8 only")
    if options.calibration_images < 1:
        raise UsageError("--calibration-images must be positive")
    from normfree.data import BadImages
    from normfree.export import export_model, quantize_onnx
    from normfree.models import ImageClassifier
    from normfree.train.model_file import load_classifier

    classifier = load_classifier(options.checkpoint)
    model, card = classifier.model, classifier.card
    if not isinstance(model, ImageClassifier):
        raise UserError(f"{options.checkpoint} is exported already; give what it was exported from")
    bad = BadImages()
    if options.int8:
        images = _calibration_images(card, options, bad)
        with TemporaryDirectory() as directory:
            exact = Path(directory) / "exact.onnx"
            export_model(model, exact, card)
            quantize_onnx(exact, options.out, images.split(32))
    else:
        export_model(model, options.out, card)
    size = options.out.stat().st_size / 1e6
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"wrote {options.out}, {size:.1f} MB", markup=False)
    if bad.count:
        console.print(
            f"{bad.count} images could not be read, others were measured: {', '.join(bad.names)}",
            markup=False,
        )


def _calibration_images(card: Mapping[str, Any], options: Options, bad: BadImages) -> Tensor:
    """Training images, chosen at random but always the same, as the network takes them.

    Others take the place of those that cannot be read, which are added to ``bad``.
    """
    import numpy as np
    import torch

    from normfree.augment import normalize
    from normfree.data import open_source
    from normfree.train.inputs import eval_transform

    data = options.data or card.get("data")
    if data is None:
        raise UserError("name the images to measure activations on with --data")
    source = open_source(data, "train")
    view = eval_transform(card, source)
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
    if view is not None:
        images = [view(image, None) for image in images]
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return normalize(x, card["mean"], card["std"])
