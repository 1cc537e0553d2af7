"""Weights out: ours with all that rebuilds the network, or under timm's names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save
from torch import Tensor, nn

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.models import ImageClassifier, build_model
from normfree.weights import timm
from normfree.weights.hub import locate
from normfree.weights.load import load_parameters
from normfree.weights.read import KEY, file_fields, identify, read_parameters

Layout = Literal["normfree", "timm"]


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What :func:`convert` did.

    Attributes:
        model: name of the network, ours.
        written_as: name of the network under the names that were written.
        source_layout: whose names the source had.
        parameters: how many numbers.
        source_sha256: of the source, hexadecimal; recorded in the new file too.
        sha256: of the new file.
    """

    model: str
    written_as: str
    source_layout: str
    parameters: int
    source_sha256: str
    sha256: str


def save_model(
    model: ImageClassifier,
    path: str | Path,
    *,
    layout: Layout = "normfree",
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as a ``.safetensors`` file.

    Args:
        model: whose weights.
        path: of the file; an older one is replaced at once, when the new one is whole.
        layout: ``"normfree"``, from which :func:`normfree.weights.load_model` rebuilds the network,
            or ``"timm"``, which ``timm.create_model(..., checkpoint_path=path)`` reads.
        card: more to say in the file's metadata; ``card["model"]`` is always the configuration.

    Raises:
        UserError: timm has no such network.
    """
    config = model.config
    state: Mapping[str, Tensor] = model.state_dict()
    if layout == "timm":
        state = timm.parameters(state, config)
    content = {**(card or {}), "model": dataclasses.asdict(config)}
    _write(Path(path), state, {"format": "pt", KEY: json.dumps(content, ensure_ascii=False)})


def convert(
    source: str | Path, out: str | Path, *, model: str | None = None, to: Layout = "normfree"
) -> Conversion:
    """Weights of one kind as a ``.safetensors`` file of another.

    Args:
        source: a file of ours, timm's or the authors', or ``hf:owner/name``.
        out: the file to write.
        model: name of the network; None tells it by the names and shapes.
        to: whose names to write.

    Returns:
        What was done, with the checksums of both files.

    Raises:
        UserError: the source is absent, damaged, refused or of another network, or timm has no
            such network.
    """
    path, out = locate(source), Path(out)
    parameters = read_parameters(path)
    if out.exists() and out.samefile(path):
        raise UserError(f"{out} is the source itself; name another file")
    if out.is_dir():
        raise UserError(f"{out} is a directory; name a file in it, such as {out / path.name}")
    if model is None:
        config = identify(parameters)
        fields = {k: v for k, v in dataclasses.asdict(config).items() if k != "name"}
        network = build_model(config.name, **fields)
    else:
        network = build_model(model, **file_fields(parameters, model))
    load_parameters(network, parameters)
    digest = sha256(path)
    origin = {"file": path.name, "layout": parameters.layout, "sha256": digest}
    card = {**default_card(network), **parameters.card, "source": origin}
    save_model(network, out, layout=to, card=card)
    return Conversion(
        model=network.config.name,
        written_as=timm.timm_model(network.config) if to == "timm" else network.config.name,
        source_layout=parameters.layout,
        parameters=_count(network),
        source_sha256=digest,
        sha256=sha256(out),
    )


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_card(model: ImageClassifier) -> dict[str, Any]:
    """How to feed a published network of ImageNet; its classes have numbers for names."""
    from normfree.augment import IMAGENET_MEAN, IMAGENET_STD

    config = model.config
    if config.in_channels != len(IMAGENET_MEAN):
        return {}
    return {
        "normfree": version("normfree"),
        "recipe": None,
        "data": None,
        "classes": [str(label) for label in range(config.num_classes)],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "test_size": config.test_size,
        "test_margin": 32,
        "resize": "bicubic, both sides to test_size + test_margin, then the centre test_size",
        "metrics": {},
    }


def _write(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.cpu().contiguous() for name, value in state.items()}
    write_atomic(path, save(weights, metadata))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
