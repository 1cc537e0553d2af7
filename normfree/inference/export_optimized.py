"""Export the fastest form of a network that a type of file can hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jaxtyping import Float
from torch import Tensor

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.inference import onnx_file, pt2_file
from normfree.inference.export import GRAPHS, whole_card
from normfree.inference.forms import FORMS, Example
from normfree.inference.optimize import TOLERANCE, Optimized, noise, optimize, parted
from normfree.models import ImageClassifier
from normfree.weights import ModelCard, check_writable


def export_optimized(
    model: ImageClassifier,
    path: str | Path,
    card: ModelCard | Mapping[str, Any] | None = None,
    images: Float[Tensor, "n c h w"] | None = None,
    *,
    batch_size: int = 1,
    tolerance: float = TOLERANCE,
    seconds: float = 10.0,
) -> Optimized:
    """Measure the forms that a file can hold on this machine, and write the fastest.

    A ``.pt2`` holds the folded network, channels last or not, in float32 or bfloat16. An ``.onnx``
    holds float32 or int8, and names the program that is fastest with it, ONNX Runtime or OpenVINO,
    under the metadata key ``normfree.form``; :func:`normfree.load` follows it.

    Args:
        model: a trained network in evaluation mode; not modified.
        path: a path ending in ``.onnx`` or ``.pt2``.
        card: see :func:`export_model`.
        images: normalized images, at least 4; see :meth:`normfree.Predictor.optimize`.
        batch_size: number of images to be fast for; the file takes any number.
        tolerance: largest error allowed.
        seconds: time to spend on timing.

    Raises:
        UserError: see :func:`export_model` and :func:`normfree.inference.optimize`.
    """
    path = Path(path)
    if path.suffix not in GRAPHS:
        raise UserError(f"only {' and '.join(GRAPHS)} files have forms; got {path}")
    whole = whole_card(model, card)
    check_writable(path)
    checked, calibration = noise(8, model.config.in_channels, whole.test_size), None
    if images is not None:
        checked, calibration = parted(images)
    found = optimize(
        model,
        checked,
        batch_size,
        tolerance=tolerance,
        forms=[form.name for form in FORMS.values() if form.file == path.suffix],
        calibration=calibration,
        seconds=seconds,
    )
    example = Example(model, checked[:2], calibration)
    if path.suffix == ".onnx":
        content = example.onnx_int8 if found.form.endswith("int8") else example.onnx
        write_atomic(path, onnx_file.chosen_for(content, found.form, whole))
        return found
    with TemporaryDirectory() as directory:
        made = Path(directory) / "model.pt2"
        shape = (checked.shape[1], checked.shape[2], checked.shape[3])
        pt2_file.write(FORMS[found.form].build(example), made, shape, whole)
        write_atomic(path, made.read_bytes())
    return found
