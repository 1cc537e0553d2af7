"""One call to write a network for deployment, whatever the kind of file; one to open it again.

All three kinds hold the same function, from normalised images to logits, as ``model(x)`` is: the
mean and standard deviation are in the card, not in the graph, so that a program that feeds one kind
feeds all, and the preprocessing it has for other networks need not be taken apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from normfree.errors import UserError
from normfree.export import onnx_file, pt2_file
from normfree.models import ImageClassifier, fold
from normfree.weights import default_card, save_model

#: The ending of a file → what it is.
SUFFIXES = {
    ".onnx": "the folded network for ONNX Runtime and its like",
    ".pt2": "the folded network for PyTorch, without this package",
    ".safetensors": "the weights as trained, to load here again; beside it the card as .json",
}
#: What a card must say, whatever else it says.
NEEDS = ("classes", "mean", "std", "test_size", "test_margin")
_GRAPHS: Mapping[str, Any] = {".onnx": onnx_file, ".pt2": pt2_file}


def export_model(
    model: ImageClassifier, path: str | Path, card: Mapping[str, Any] | None = None
) -> None:
    """Write a network for deployment.

    Args:
        model: a trained network; left as it was.
        path: ends in ``.onnx``, ``.pt2`` or ``.safetensors``; an older file is replaced.
        card: how to feed the network: ``classes`` (names), ``mean`` and ``std`` (per channel, in
            grey levels of 0 to 255), ``test_size`` and ``test_margin`` (pixels), ``resize`` (the
            rule in words). None takes that of a network trained on ImageNet.

    Raises:
        UserError: no such kind of file; an exporter that is not installed; a network that computes
            something else once exported.

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
        ...     network, card = open_exported(f"{directory}/pico.pt2")
        >>> x = torch.randn(5, 3, 8, 8)
        >>> torch.allclose(network(x), model(x), atol=1e-6), card["test_size"], card["classes"][:3]
        (True, 8, ['0', '1', '2'])
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"cannot tell what to export to {path}: end it in {', '.join(SUFFIXES)}")
    content = {**default_card(model), **(card or {}), "model": asdict(model.config)}
    if missing := [field for field in NEEDS if field not in content]:
        raise UserError(f"the card lacks {', '.join(missing)}: how is the network to be fed?")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in _GRAPHS:
        size = content["test_size"]
        shape = (model.config.in_channels, size, size)
        _GRAPHS[path.suffix].write(fold(model).float().cpu(), path, shape, content)
        return
    save_model(model, path, card=content)
    text = json.dumps(content, ensure_ascii=False, indent=2)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def open_exported(path: str | Path, device: str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """A network of an ``.onnx`` or ``.pt2`` file that :func:`export_model` wrote, and its card.

    Args:
        path: of the file.
        device: where to compute.

    Returns:
        A module from normalised images to logits, which cannot be trained; and the card.

    Raises:
        UserError: there is no such file, or it is damaged, of another kind or without a card.
    """
    path = Path(path)
    if path.suffix not in _GRAPHS:
        raise UserError(f"{path} is no exported graph: expected {' or '.join(_GRAPHS)}")
    if not path.is_file():
        raise UserError(f"there is no {path}")
    return _GRAPHS[path.suffix].read(path, device)
