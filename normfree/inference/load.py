"""Load any trained network as a :class:`Predictor`."""

from __future__ import annotations

from pathlib import Path

from normfree.device import find_device
from normfree.errors import UserError
from normfree.inference.export import GRAPHS, open_exported
from normfree.inference.predictor import Predictor
from normfree.weights import (
    Parameters,
    build_identified,
    describe,
    locate,
    read_parameters,
)
from normfree.weights.card import imagenet_fields


def load(
    path: str | Path, device: str = "cpu", trusted: bool = False, *, optimize: bool = False
) -> Predictor:
    """Load a trained network that is ready to classify images.

    Args:
        path: a run directory (its ``model.safetensors`` or, if there is none yet, its newest
            checkpoint), a ``.safetensors`` file, a checkpoint (its averaged weights), the authors'
            or timm's weights, a file from :func:`export_model` (``.onnx``, ``.pt2``), or
            ``hf:owner/name``.
        device: device to compute on: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` selects an
            accelerator if there is one.
        trusted: whether you trust the author of the file. Only a ``.pt2`` requires it, because
            PyTorch's reader can execute code from it. Reading any other file executes nothing.
        optimize: whether to measure forms of the network on this machine and keep the fastest; see
            :meth:`Predictor.optimize`.

    Raises:
        UserError: the file is missing, damaged or rejected, or lacks preprocessing settings.

    Example:
        >>> import tempfile, numpy as np
        >>> import normfree
        >>> from normfree.weights import save_model
        >>> model = normfree.create_model("nfnet_pico", num_classes=2, in_channels=1)
        >>> card = {"classes": ["cat", "dog"], "mean": [127.5], "std": [64.0]}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     save_model(model, f"{directory}/model.safetensors", card=card)
        ...     predictor = normfree.load(f"{directory}/model.safetensors")
        >>> likeliest = predictor.predict(np.zeros((20, 30), np.uint8))[0][0]
        >>> likeliest.label in ("cat", "dog"), 0.5 <= likeliest.probability <= 1
        (True, True)
    """
    file = locate(path)
    if not file.exists():
        raise UserError(
            f"there is no {file}; pass a model.safetensors, a checkpoint, a run directory or a "
            "file from normfree export"
        )
    device = find_device(device)
    if file.suffix in GRAPHS:
        model, card = open_exported(file, device, trusted=trusted)
        return Predictor(model, card, device, str(file), optimize=optimize)
    return _of_weights(read_parameters(file), device, optimize)


def _of_weights(parameters: Parameters, device: str, optimize: bool) -> Predictor:
    source, card = parameters.source, parameters.card
    if card is None and parameters.layout == "normfree":
        raise UserError(
            f"{source} has weights, but not the card that normfree train writes with them "
            "(classes, sizes, normalization)"
        )
    model = build_identified(parameters, device=device).eval()
    card = card or describe(model, imagenet_fields(model))
    return Predictor(model, card, device, source, optimize=optimize)
