"""What a file of weights holds, told by looking into it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from normfree.errors import UserError
from normfree.models import ClassifierConfig, build_model, list_models, model_config
from normfree.weights import deepmind, timm
from normfree.weights.pickled import read_pickled_arrays

#: The key of a ``.safetensors`` file's metadata that holds its card, as JSON.
KEY = "normfree"

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: The first convolution and the classifier, and their axes of input and output channels.
_ENDS = {
    "normfree": (r"stem\.conv0?\.weight", 1, r"classifier\.weight", 0),
    "timm": (r"stem\.conv1?\.weight", 1, r"head\.fc\.weight", 0),
    "deepmind": (r"\w+/~/(stem_conv0|initial_conv)/w", 2, r"\w+/~/linear/w", 1),
}
_PLACE = r"^stages\.(\d+)\.(\d+)\."
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


@dataclass(frozen=True)
class Parameters:
    """The content of a file, under its own names.

    Attributes:
        source: the file, for messages.
        layout: whose names and shapes they are.
        values: name → value.
        card: what our own files say of the network: ``card["model"]`` is its configuration.
    """

    source: str
    layout: Literal["normfree", "timm", "deepmind"]
    values: Mapping[str, Any]
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def state_dict(self, config: ClassifierConfig) -> dict[str, Tensor]:
        """The values under our names, for a network with this configuration."""
        match self.layout:
            case "timm":
                return timm.state_dict(self.values, config)
            case "deepmind":
                return deepmind.state_dict(self.values, config.depths)
            case _:
                return dict(self.values)


def read_parameters(path: str | Path) -> Parameters:
    """Read the weights of a file, whatever its name says it is.

    It may be a ``.safetensors`` file (ours or timm's), one of ``torch.save`` (read with
    ``weights_only``) or a pickle of arrays (the authors'). None of them runs code.

    Raises:
        UserError: the file is absent, damaged, refused or of no known kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there are no weights at {path}")
    with path.open("rb") as file:
        head = file.read(len(_OLD_TORCH))
    card: dict[str, Any] = {}
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        values, card = _read_safetensors(path)
    elif head.startswith((_ZIP, _OLD_TORCH)):
        values = _read_torch(path)
    elif head.startswith(_PICKLE):
        return Parameters(str(path), "deepmind", read_pickled_arrays(path))
    else:
        raise UserError(
            f"{path} holds no weights that normfree knows: expected a .safetensors file, one of "
            "torch.save, or a pickle of arrays"
        )
    return Parameters(
        str(path), "timm" if timm.has_timm_names(values) else "normfree", values, card
    )


def identify(parameters: Parameters) -> ClassifierConfig:
    """The configuration of the network that weights belong to.

    Raises:
        UserError: they fit no registered network, and the file does not say what they are of.
    """
    if "model" in parameters.card:
        fields = dict(parameters.card["model"])
        return model_config(fields.pop("name"), **fields)
    for name in _candidates(parameters):
        fields = file_fields(parameters, name)
        try:
            config = model_config(name, **fields)
            state = parameters.state_dict(config)
        except UserError:  # another family's names or fields
            continue
        own = build_model(name, device="meta", **fields).state_dict()
        if {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in state.items()}:
            return config
    raise UserError(
        f"{parameters.source} ({len(parameters.values)} tensors under the names of "
        f"{parameters.layout}) fits no network that normfree lists; name the nearest one to see "
        "what differs"
    )


def file_fields(parameters: Parameters, name: str) -> dict[str, Any]:
    """The fields that a network must have for the weights of a file.

    Args:
        parameters: of the file.
        name: of the network.
    """
    if (said := parameters.card.get("model", {})).get("name") == name:
        return {field: value for field, value in said.items() if field != "name"}
    fields: dict[str, Any] = {}
    if parameters.layout == "timm" and (structure := timm.structural_fields(parameters.values)):
        fields = {**structure, **timm.SIZES}
    stem, i, classifier, o = _ENDS[parameters.layout]
    fields["num_classes"] = 0
    for key, value in parameters.values.items():
        if re.fullmatch(stem, key) and value.ndim == 4:
            fields["in_channels"] = value.shape[i]
        elif re.fullmatch(classifier, key) and value.ndim == 2:
            fields["num_classes"] = value.shape[o]
    known = {field.name for field in dataclasses.fields(model_config(name))}
    return {field: value for field, value in fields.items() if field in known}


def _candidates(parameters: Parameters) -> Iterable[str]:
    """Networks with as many blocks."""
    if parameters.layout == "deepmind":
        blocks = deepmind.block_count(parameters.values)
        return [name for name in list_models() if sum(model_config(name).depths) == blocks]
    places = {tuple(map(int, m)) for m in re.findall(_PLACE, "\n".join(parameters.values), re.M)}
    depths = tuple(sum(stage == s for s, _ in places) for stage in range(4))
    return [name for name in list_models() if model_config(name).depths == depths]


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {}).get(KEY, "{}"))
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or no .safetensors file: {error}") from error
    model = card.get("model", {"name": ""}) if isinstance(card, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        raise UserError(f"{path} has a damaged card: the metadata under {KEY!r} names no network")
    return values, card


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged or refused: {_reason(error)}") from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise UserError(f"{path} holds no state dict: a dict of names to tensors")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _reason(error: Exception) -> str:
    """The line of torch's many that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (telling or lines or [type(error).__name__])[0]
