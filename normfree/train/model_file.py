"""``model.safetensors``: weights and all that is needed to classify an image with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.factory import create_model
from normfree.train.checkpoint import list_checkpoints, read_checkpoint
from normfree.train.resolve import Resolved, from_dict
from normfree.weights import KEY, load_state_dict, read_parameters

#: What becomes of an image before it is normalized, for people who read the card.
RESIZE = {
    "resize_crop": "bicubic, both sides to test_size + test_margin, then the centre test_size",
    "crop_resize": "the central square of test_size / (test_size + test_margin) of the shorter "
    "side, then bicubic to test_size",
}
CARD_NEEDS = {"model", "classes", "mean", "std", "test_size", "test_margin"}


@dataclass(frozen=True)
class Classifier:
    """A trained network and how to feed it.

    Attributes:
        model: in evaluation mode; an exported file's is a graph that only computes logits.
        card: what the file says of it: ``model`` (its configuration), ``classes``, ``mean`` and
            ``std`` (per channel, 0..255), ``test_size`` and ``test_margin`` (pixels), ``test_crop``
            and ``loss`` (as in the recipe; absent from older files), ``data``, ``recipe``,
            ``metrics`` and ``normfree`` (the version that wrote it).
    """

    model: torch.nn.Module
    card: dict[str, Any]


def make_card(resolved: Resolved, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader of the weights has to know; the same for equal runs, wherever they lie."""
    return {
        "normfree": version("normfree"),
        "recipe": resolved.recipe.name,
        "data": resolved.recipe.data,
        "model": resolved.model,
        "classes": resolved.classes,
        "mean": resolved.mean,
        "std": resolved.std,
        "test_size": resolved.test_size,
        "test_margin": resolved.test_margin,
        "test_crop": resolved.recipe.test_crop,
        "resize": RESIZE[resolved.recipe.test_crop],
        "loss": resolved.recipe.loss,
        "metrics": dict(metrics),
    }


def save_model_file(
    path: Path, model: torch.nn.Module, resolved: Resolved, metrics: Mapping[str, Any]
) -> None:
    """Write the weights and their card.

    Args:
        path: of the file.
        model: whose weights; the averaged ones of a run.
        resolved: the configuration of the run.
        metrics: what was measured of these weights.
    """
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    card = json.dumps(make_card(resolved, metrics), ensure_ascii=False)
    write_atomic(path, save(weights, metadata={KEY: card}))


def load_classifier(path: Path, device: str = "cpu") -> Classifier:
    """A trained network from a ``model.safetensors``, a checkpoint, a run directory or an export.

    A checkpoint gives its averaged weights; a directory its ``model.safetensors`` or, before there
    is one, its newest checkpoint.

    Raises:
        UserError: there is no such file, or it is damaged or holds something else.
    """
    path = _weights_file(path)
    if path.suffix in (".onnx", ".pt2"):
        from normfree.export import open_exported

        return Classifier(*open_exported(path, device))
    weights, card = read_trained(path)
    model = create_model(**card["model"], device=device)
    load_state_dict(model, weights, str(path))
    return Classifier(model.eval(), card)


def read_trained(path: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Weights and card of a ``model.safetensors``, a checkpoint or a run directory.

    Raises:
        UserError: there is no such file, or it is damaged or holds something else.
    """
    path = _weights_file(path)
    if path.suffix != ".pt":
        return _read_model_file(path)
    content = read_checkpoint(path)
    card = make_card(from_dict(content["config"]), {"step": content["step"]})
    return content["state"]["ema"], card


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        checkpoints = list_checkpoints(path / "checkpoints")
        for candidate in (path / "model.safetensors", *reversed(checkpoints)):
            if candidate.exists():
                return candidate
        raise UserError(f"{path} holds neither model.safetensors nor a checkpoint")
    if not path.exists():
        raise UserError(
            f"there is no {path}; give a model.safetensors, a checkpoint or a run directory"
        )
    return path


def _read_model_file(path: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    parameters = read_parameters(path)
    if CARD_NEEDS - parameters.card.keys():
        raise UserError(
            f"{path} has weights, but not what normfree train writes beside them "
            "(classes, sizes, normalization)"
        )
    return parameters.values, dict(parameters.card)
