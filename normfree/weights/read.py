"""Read weights files; the format and the network are inferred from the content."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from normfree.errors import UserError
from normfree.models import ClassifierConfig, list_models, model_config
from normfree.weights import deepmind, timm
from normfree.weights.build import build_on_meta, network_config
from normfree.weights.card import KEY, ModelCard, read_card
from normfree.weights.checkpoint import averaged_weights, is_checkpoint
from normfree.weights.checkpoint_directory import SUMS, read_checkpoint_directory
from normfree.weights.pickled import read_pickled_arrays
from normfree.weights.safetensors_file import looks_like_safetensors, read_safetensors
from normfree.weights.torch_file import OLD, ZIP, is_state_dict, read_torch

_PICKLE = b"\x80"
#: Patterns of the first convolution and the classifier, with their input and output axes.
_ENDS = {
    "normfree": (r"stem\.conv0?\.weight", 1, r"classifier\.weight", 0),
    "timm": (r"stem\.conv1?\.weight", 1, r"head\.fc\.weight", 0),
    "deepmind": (r"\w+/~/(stem_conv0|initial_conv)/w", 2, r"\w+/~/linear/w", 1),
}
_PLACE = r"^stages\.(\d+)\.(\d+)\."
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


@dataclass(frozen=True)
class Parameters:
    """The content of a weights file, under the file's own names.

    Attributes:
        source: name of the file in messages.
        layout: whose parameter names and shapes the file uses.
        values: name → value.
        card: the model card; None for files that normfree did not write.
    """

    source: str
    layout: Literal["normfree", "timm", "deepmind"]
    values: Mapping[str, Any]
    card: ModelCard | None = None

    def state_dict(self, config: ClassifierConfig) -> dict[str, Tensor]:
        """Convert the values to our names and shapes, for a network with this configuration.

        Raises:
            UserError: the values do not belong to a network of their layout.
        """
        try:
            match self.layout:
                case "timm":
                    return timm.state_dict(self.values, config)
                case "deepmind":
                    return deepmind.state_dict(self.values, config.depths)
                case _:
                    return dict(self.values)
        except UserError:
            raise
        except (RuntimeError, LookupError, TypeError, ValueError):  # tensors of unexpected shapes
            raise UserError(
                f"{self.source} has tensors whose types or shapes do not match the networks of "
                f"{self.layout}"
            ) from None


def read_parameters(path: str | Path) -> Parameters:
    """Read the weights of a file. The format is detected from the content, not the file name.

    Supported are ``.safetensors`` files (normfree's or timm's), ``torch.save`` files, pickles of
    arrays (the authors'), and checkpoints of normfree, which give their averaged weights. Reading
    never executes code from the file.

    Raises:
        UserError: the file is missing, damaged, rejected, or of an unknown format.
    """
    path = Path(path)
    if (path / SUMS).is_file():
        return _averaged(read_checkpoint_directory(path), path)
    if not path.is_file():
        raise UserError(f"there are no weights at {path}")
    with path.open("rb") as file:
        head = file.read(len(OLD))
    if looks_like_safetensors(head, path.stat().st_size):
        values, metadata = read_safetensors(path)
        card = read_card(metadata[KEY], str(path)) if KEY in metadata else None
        return Parameters(str(path), _layout(values), values, card)
    if head.startswith((ZIP, OLD)):
        return _of_torch(path)
    if head.startswith(_PICKLE):
        return Parameters(str(path), "deepmind", read_pickled_arrays(path))
    raise UserError(
        f"{path} holds no weights that normfree can read: expected a .safetensors file, a "
        "torch.save file, or a pickle of arrays"
    )


def _of_torch(path: Path) -> Parameters:
    content = read_torch(path)
    if is_checkpoint(content):
        return _averaged(content, path)
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not is_state_dict(content):
        raise UserError(f"{path} holds no state dict, a dict of names to tensors")
    values = {name.removeprefix("module."): value for name, value in content.items()}
    return Parameters(str(path), _layout(values), values)


def _averaged(content: Any, path: Path) -> Parameters:
    values, card = averaged_weights(content, str(path))
    return Parameters(str(path), "normfree", values, card)


def _layout(values: Mapping[str, Tensor]) -> Literal["normfree", "timm"]:
    return "timm" if timm.has_timm_names(values) else "normfree"


def identify(parameters: Parameters) -> ClassifierConfig:
    """Infer the configuration of the network that the weights belong to.

    Raises:
        UserError: the weights match no registered network, and the file has no card.
    """
    if parameters.card is not None:
        try:
            return network_config(parameters.card.model)
        except UserError as error:
            raise UserError(f"{parameters.source} has a damaged card: {error}") from None
    for name in _candidates(parameters):
        fields = file_fields(parameters, name)
        try:
            config = model_config(name, **fields)
            state = parameters.state_dict(config)
        except UserError:  # another family's names or fields
            continue
        own = build_on_meta(name, fields).state_dict()
        if {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in state.items()}:
            return config
    raise UserError(
        f"{parameters.source} ({len(parameters.values)} tensors with {parameters.layout} names) "
        "fits no network that normfree lists; name the nearest one to see what differs"
    )


def file_fields(parameters: Parameters, name: str) -> dict[str, Any]:
    """The configuration fields that a network needs for the weights of a file.

    Args:
        parameters: parameters of the file.
        name: name of the network.
    """
    card = parameters.card
    if card is not None and card.model["name"] == name:
        return {field: value for field, value in card.model.items() if field != "name"}
    fields: dict[str, Any] = {}
    if parameters.layout == "timm" and (structure := timm.structural_fields(parameters.values)):
        fields = {**structure, **timm.SIZES}
    stem, i, classifier, o = _ENDS[parameters.layout]
    fields["num_classes"] = 0
    for key, value in parameters.values.items():
        if value.ndim == 4 and re.fullmatch(stem, key):
            fields["in_channels"] = value.shape[i]
        elif re.fullmatch(classifier, key) and value.ndim == 2:
            fields["num_classes"] = value.shape[o]
    known = {field.name for field in dataclasses.fields(model_config(name))}
    return {field: value for field, value in fields.items() if field in known}


def _candidates(parameters: Parameters) -> Iterable[str]:
    """Registered networks with the same number of blocks."""
    if parameters.layout == "deepmind":
        blocks = deepmind.block_count(parameters.values)
        return [name for name in list_models() if sum(model_config(name).depths) == blocks]
    places = {tuple(map(int, m)) for m in re.findall(_PLACE, "\n".join(parameters.values), re.M)}
    depths = tuple(sum(stage == s for s, _ in places) for stage in range(4))
    return [name for name in list_models() if model_config(name).depths == depths]
