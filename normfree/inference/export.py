"""One call to write a network for deployment, whatever the kind of file; one to open it again.

All three kinds hold the same function, from normalised images to logits, as ``model(x)`` is: the
mean and standard deviation are in the card, not in the graph, so that a program that feeds one kind
feeds all, and the preprocessing it has for other networks need not be taken apart.
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

#: The ending of a file → what it is.
SUFFIXES = {
    ".onnx": "the folded network for ONNX Runtime and its like",
    ".pt2": "the folded network for PyTorch, without this package",
    ".safetensors": "the weights as trained, to load here again; beside it the card as .json",
}
#: The endings of graphs, which run without this package.
GRAPHS: Mapping[str, Any] = {".onnx": onnx_file, ".pt2": pt2_file}


def export_model(
    model: ImageClassifier,
    path: str | Path,
    card: ModelCard | Mapping[str, Any] | None = None,
) -> None:
    """Write a network for deployment.

    Args:
        model: a trained network; left as it was.
        path: ends in ``.onnx``, ``.pt2`` or ``.safetensors``; an older file is replaced at once,
            when the new one is whole.
        card: how to feed the network, or some fields of :class:`normfree.weights.ModelCard`:
            ``classes`` (names), ``mean`` and ``std`` (per channel, in grey levels of 0 to 255),
            ``test_size`` and ``test_margin`` (pixels). What is left out is that of a network
            trained on ImageNet.

    Raises:
        UserError: no such kind of file; an exporter that is not installed; a network that computes
            something else once exported; a place where nothing can be written.

    The graphs take float32 images (n, c, ``test_size``, ``test_size``), any n, normalised with the
    card's mean and standard deviation, and give logits (n, classes). The card is JSON under the
    key ``normfree``: in ONNX's ``metadata_props``, in the ``.pt2`` as an extra file, in the
    ``.safetensors`` as metadata.

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
        raise UserError(f"{path} says not what to write: end it in {', '.join(SUFFIXES)}")
    said = plain_card(card) if isinstance(card, ModelCard) else dict(card or {})
    whole = describe(model, imagenet_fields(model) | said)
    if whole.missing:
        raise UserError(f"the card lacks {', '.join(whole.missing)}: how is the network to be fed?")
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


def move_whole(made: Path, path: Path) -> None:
    """Put a finished file at its place, all of it or nothing."""
    if len(list(made.parent.iterdir())) > 1:
        raise UserError(f"the network is too large for one {path.suffix} file; use .safetensors")
    write_atomic(path, made.read_bytes())


def open_exported(
    path: str | Path, device: str = "cpu", *, trusted: bool = False
) -> tuple[nn.Module, ModelCard]:
    """A network of an ``.onnx`` or ``.pt2`` file that :func:`export_model` wrote, and its card.

    Args:
        path: of the file.
        device: where to compute.
        trusted: whether you trust who made the file; a ``.pt2`` is not opened without.

    Returns:
        A module from normalised images to logits, which cannot be trained; and the card.

    Raises:
        UserError: there is no such file, or it is not trusted, damaged, of another kind or without
            a card.
    """
    path = Path(path)
    if path.suffix not in GRAPHS:
        raise UserError(f"{path} is no exported graph: expected {' or '.join(GRAPHS)}")
    if not path.is_file():
        raise UserError(f"there is no {path}")
    return GRAPHS[path.suffix].read(path, device, trusted)
