"""Weights files in the formats of other projects, for networks small enough for tests."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from normfree.models import ImageClassifier, build_model, model_config
from normfree.weights import deepmind


def pico(**fields: object) -> ImageClassifier:
    """A network without any parameter at its initial value."""
    model = build_model("nfnet_pico", **{"num_classes": 5, **fields})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


def haiku_tree(model: ImageClassifier) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of an NFNet with the authors' names and layouts."""
    tree: dict[str, dict[str, np.ndarray]] = {}
    depths = model_config(model.config.name).depths
    for key, value in model.state_dict().items():
        module, _, parameter = _haiku_name(key, depths).rpartition("/")
        array = value.numpy()
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        tree.setdefault(module, {})[parameter] = array.T if array.ndim == 2 else array
    return tree


def write_haiku(model: ImageClassifier, path: Path) -> Path:
    """Write a pickle under any file name, like the authors' published weights."""
    path.write_bytes(pickle.dumps(haiku_tree(model), 3))
    return path


def _haiku_name(ours: str, depths: tuple[int, ...]) -> str:
    parts = ours.split(".")
    leaf = {"weight": "w", "bias": "b"}.get(parts[-1], parts[-1])
    modules = {ours.rstrip("."): haiku for haiku, ours in deepmind._MODULES.items() if ours}
    if parts[0] != "stages":
        return f"NFNet/~/{modules['.'.join(parts[:-1])]}/{leaf}"
    number = sum(depths[: int(parts[1])]) + int(parts[2])
    block = "NFNet/~/nf_block" + (f"_{number}" if number else "")
    module = ".".join(parts[3:-1])
    return f"{block}/~/{modules[module]}/{leaf}" if module else f"{block}/{leaf}"
