"""Save weights, either in our layout, from which the network can be rebuilt, or in timm's."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models import ImageClassifier
from normfree.weights import timm
from normfree.weights.card import KEY, ModelCard, describe, imagenet_fields, plain_card
from normfree.weights.hub import locate
from normfree.weights.load import build_identified, build_with
from normfree.weights.read import read_parameters
from normfree.weights.safetensors_file import write_safetensors

Layout = Literal["normfree", "timm"]


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The result of :func:`convert`.

    Attributes:
        model: our name for the network.
        written_as: name of the network in the layout that was written.
        source_layout: layout of the source.
        parameters: number of parameters.
        source_sha256: SHA-256 of the source, hexadecimal; also recorded in the new file.
        sha256: SHA-256 of the new file.
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
    card: ModelCard | Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model as a ``.safetensors`` file.

    Args:
        model: the model whose weights are saved.
        path: path of the file; an existing file is replaced atomically.
        layout: ``"normfree"``, from which :func:`normfree.weights.load_model` rebuilds the network,
            or ``"timm"``, which ``timm.create_model(..., checkpoint_path=path)`` reads.
        card: preprocessing and provenance, as a :class:`normfree.weights.ModelCard` or some of its
            fields; the field ``model`` is always taken from the model.
        state: its weights by name, if the model holds only a part of them; None takes the model's.

    Raises:
        UserError: timm has no such network, the card does not fit the model, or the path is not
            writable.
    """
    config = model.config
    state = model.state_dict() if state is None else state
    if layout == "timm":
        state = timm.parameters(state, config)
    metadata = {KEY: describe(model, card).to_json()}  # the library does not keep the key order
    write_safetensors(check_writable(path), state, metadata)


def check_writable(path: str | Path) -> Path:
    """Check that a file may be written to a path, and create its directory.

    Raises:
        UserError: the path is a directory, a device or a pipe, or its directory cannot be created.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a directory; name a file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file and is not replaced; name another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def convert(
    source: str | Path, out: str | Path, *, model: str | None = None, to: Layout = "normfree"
) -> Conversion:
    """Convert weights to a ``.safetensors`` file in our layout or timm's.

    Args:
        source: a file from normfree, timm or the authors, or ``hf:owner/name``.
        out: the file to write.
        model: name of the network; None infers it from the parameter names and shapes.
        to: layout of the new file.

    Returns:
        A summary with the checksums of both files.

    Raises:
        UserError: the source is missing, damaged, rejected, or for another network, or timm has
            no such network.
    """
    path, out = locate(source), Path(out)
    parameters = read_parameters(path)
    if out.exists() and out.samefile(path):
        raise UserError(f"{out} is the source itself; name another file")
    if out.is_dir():
        raise UserError(f"{out} is a directory; name a file in it, such as {out / path.name}")
    check_writable(out)
    network = build_identified(parameters) if model is None else build_with(parameters, model)
    digest = sha256(path)
    origin = {"file": path.name, "layout": parameters.layout, "sha256": digest}
    said = {} if parameters.card is None else plain_card(parameters.card)
    save_model(network, out, layout=to, card={**imagenet_fields(network), **said, "source": origin})
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


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
