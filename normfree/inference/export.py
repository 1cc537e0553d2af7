"""Export networks for deployment, and open exported files.

All three formats contain the same function as ``model(x)``, from normalized images to logits. The
mean and standard deviation are in the card, not in the graph. A program can therefore use the same
preprocessing for every format, and for other classifiers too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.inference import onnx_file, pt2_file
from normfree.models import ImageClassifier, fold
from normfree.weights import ModelCard, check_writable, describe, save_model
from normfree.weights.card import imagenet_fields, plain_card

#: File name extension → format.
SUFFIXES = {
    ".onnx": "the folded network for ONNX Runtime and other ONNX backends",
    ".pt2": "the folded network for PyTorch, without this package",
    ".safetensors": "the weights as trained, for this package, with the card in a .json next to it",
}
#: Formats with a graph, which run without this package.
GRAPHS: Mapping[str, Any] = {".onnx": onnx_file, ".pt2": pt2_file}


def export_model(
    model: ImageClassifier,
    path: str | Path,
    card: ModelCard | Mapping[str, Any] | None = None,
) -> None:
    """Write a network for deployment.

    Args:
        model: a trained network; not modified.
        path: a path ending in ``.onnx``, ``.pt2`` or ``.safetensors``; an existing file is
            replaced atomically.
        card: preprocessing, as a :class:`normfree.weights.ModelCard` or some of its fields:
            ``classes`` (names), ``mean`` and ``std`` (per channel, on the scale 0 to 255),
            ``test_size`` and ``test_margin`` (pixels). Missing fields default to ImageNet's.

    Raises:
        UserError: the extension is unknown, an exporter is not installed, the exported network
            computes something else, or the path is not writable.

    A graph takes float32 images (n, c, ``test_size``, ``test_size``) for any n, normalized with
    the card's mean and standard deviation, and returns logits (n, classes). The card is JSON under
    the key ``normfree``: in the ``metadata_props`` of an ``.onnx``, an extra file of a ``.pt2``,
    the metadata of a ``.safetensors``.

    Example:
        >>> import tempfile, torch
        >>> from normfree.models import build_model
        >>> model = build_model("nfnet_pico", num_classes=10).eval()
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     export_model(model, f"{directory}/pico.pt2")
        ...     network, card = open_exported(f"{directory}/pico.pt2", trusted=True)
        >>> x = torch.randn(5, 3, 8, 8)
        >>> torch.allclose(network(x), model(x), atol=1e-6), card.test_size, card.classes[:3]
        (True, 8, ('0', '1', '2'))
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"unknown format of {path}: end it in {', '.join(SUFFIXES)}")
    whole = whole_card(model, card)
    check_writable(path)
    if path.suffix in GRAPHS:
        shape = (model.config.in_channels, whole.test_size, whole.test_size)
        with TemporaryDirectory() as directory:
            made = Path(directory) / f"model{path.suffix}"
            GRAPHS[path.suffix].write(fold(model).float().cpu(), made, shape, whole)
            move_whole(made, path)
        return
    save_model(model, path, card=whole)
    write_atomic(path.with_suffix(".json"), f"{whole.to_json()}\n".encode())


def whole_card(model: ImageClassifier, card: ModelCard | Mapping[str, Any] | None) -> ModelCard:
    """The card to write into a file; fields that are missing default to ImageNet's."""
    said = plain_card(card) if isinstance(card, ModelCard) else dict(card or {})
    whole = describe(model, imagenet_fields(model) | said)
    if whole.missing:
        raise UserError(f"the card lacks {', '.join(whole.missing)}: pass them in card")
    return whole


def move_whole(made: Path, path: Path) -> None:
    """Move a finished file to its destination atomically."""
    if len(list(made.parent.iterdir())) > 1:
        raise UserError(f"the network is too large for one {path.suffix} file; use .safetensors")
    write_atomic(path, made.read_bytes())


def open_exported(
    path: str | Path, device: str = "cpu", *, trusted: bool = False
) -> tuple[nn.Module, ModelCard]:
    """Open an ``.onnx`` or ``.pt2`` file that :func:`export_model` wrote.

    Args:
        path: path of the file.
        device: device to compute on.
        trusted: whether you trust the author of the file; required for a ``.pt2``.

    Returns:
        A module from normalized images to logits, for inference only, and the card.

    Raises:
        UserError: the file is missing, untrusted, damaged, of another format, or has no card.
    """
    path = Path(path)
    if path.suffix not in GRAPHS:
        raise UserError(f"{path} is not an exported graph: expected {' or '.join(GRAPHS)}")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return GRAPHS[path.suffix].read(path, device, trusted)
