"""From uploaded files to what is known about each."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from normfree.analysis import class_activation_map, input_gradient_map
from normfree.data import decode
from normfree.data.formats import Limits
from normfree.errors import BadImageError
from normfree.inference.predictor import Predictor
from normfree.inference.preprocess import stack
from normfree.models import ImageClassifier
from normfree.serve.settings import Settings

_FEWEST_PLACES = 4  # per side: a coarser class activation map shows nothing
_MOST_PLACES = 32  # per side
_SMALL = 64  # pixels: a view this small loses visibly as a JPEG and is a PNG


class Upload(NamedTuple):
    """An uploaded file.

    Args:
        name: as shown to people.
        file: its contents, not yet read.
    """

    name: str
    file: BinaryIO


def answer(
    predictor: Predictor, uploads: Sequence[Upload], settings: Settings, *, top: int, look: bool
) -> list[dict[str, Any]]:
    """Classify files one after another, so that one image is in memory decoded at a time.

    Args:
        predictor: the network.
        uploads: the files.
        settings: limits.
        top: number of classes to name.
        look: whether to add ``view``, the image as the network saw it, and a map for each class.

    Returns:
        For each file its ``name``, and ``classes`` or ``error``.
    """
    found: list[dict[str, Any]] = [{"name": upload.name} for upload in uploads]
    seen: list[tuple[int, np.ndarray | None]] = []

    def readable() -> Iterator[np.ndarray]:
        for index, upload in enumerate(uploads):
            try:
                pixels = _decoded(upload, predictor, settings)
            except BadImageError as error:
                found[index]["error"] = error.reason
            else:
                seen.append((index, predictor.transform(pixels) if look else None))
                yield pixels

    shares = predictor.probabilities(readable())
    for (index, view), row in zip(seen, shares, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        found[index]["classes"] = [
            {"class": predictor.classes[k], "probability": float(row[k])} for k in best
        ]
        if view is not None:
            found[index]["view"] = data_uri(view)
            _add_maps(found[index], predictor, view, best)
    return found


def map_kind(predictor: Predictor) -> str | None:
    """How the maps of a network are made: ``class activation``, ``gradient``, or None.

    An exported graph has neither feature maps nor gradients.
    """
    model, card = predictor.trained, predictor.card
    if not isinstance(model, ImageClassifier):
        return None
    weight = next(model.parameters())
    x = torch.zeros(1, card.channels, card.test_size, card.test_size, dtype=weight.dtype)
    with torch.no_grad():
        places = model.forward_features(x.to(weight.device)).shape[2:]
    return "class activation" if min(places) >= _FEWEST_PLACES else "gradient"


def data_uri(pixels: np.ndarray) -> str:
    """An image (h, w, c) of values from 0 to 255 as a ``data:`` address."""
    kind = "png" if max(pixels.shape[:2]) <= _SMALL else "jpeg"
    whole = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(whole[:, :, 0] if whole.shape[2] == 1 else whole).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _decoded(upload: Upload, predictor: Predictor, settings: Settings) -> np.ndarray:
    limits = Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_image_bytes)
    content = upload.file.read(settings.max_image_bytes + 1)
    if len(content) > settings.max_image_bytes:
        raise BadImageError(
            upload.name, f"it has more than the {settings.max_image_bytes:,} bytes allowed"
        )
    return decode(content, channels=predictor.card.channels, name=upload.name, limits=limits)


def _add_maps(
    found: dict[str, Any], predictor: Predictor, view: np.ndarray, best: np.ndarray
) -> None:
    kind = map_kind(predictor)
    if kind is None:
        return
    x = predictor.inputs.normalize(stack([view]))
    classes = torch.from_numpy(best)[None].to(x.device)
    model: Any = predictor.trained
    compute = class_activation_map if kind == "class activation" else input_gradient_map
    maps = _coarse(compute(model, x, classes))
    found["map"] = kind
    for entry, values in zip(found["classes"], maps, strict=True):
        entry["map"] = [[float(f"{v:.4g}") for v in row] for row in values.tolist()]


def _coarse(maps: Tensor) -> Tensor:
    """The maps of one image, averaged to at most 32 places a side."""
    height, width = maps.shape[2:]
    return F.adaptive_avg_pool2d(
        maps.float(), (min(height, _MOST_PLACES), min(width, _MOST_PLACES))
    )[0].cpu()
