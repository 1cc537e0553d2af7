"""Read, write and convert weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normfree.lazy import lazy

if TYPE_CHECKING:
    from normfree.weights.card import KEY, ModelCard, describe, plain_card, read_card
    from normfree.weights.hub import locate
    from normfree.weights.load import (
        build_identified,
        build_with,
        load_model,
        load_parameters,
        load_state_dict,
        load_weights,
    )
    from normfree.weights.pretrained import PRETRAINED, Pretrained, named
    from normfree.weights.read import Parameters, file_fields, identify, read_parameters
    from normfree.weights.save import Conversion, check_writable, convert, save_model
    from normfree.weights.torch_file import read_torch

__all__ = [
    "KEY",
    "PRETRAINED",
    "Conversion",
    "ModelCard",
    "Parameters",
    "Pretrained",
    "build_identified",
    "build_with",
    "check_writable",
    "convert",
    "describe",
    "file_fields",
    "identify",
    "load_model",
    "load_parameters",
    "load_state_dict",
    "load_weights",
    "locate",
    "named",
    "plain_card",
    "read_card",
    "read_parameters",
    "read_torch",
    "save_model",
]

__getattr__ = lazy(
    __name__,
    {
        "card": "KEY ModelCard describe plain_card read_card",
        "hub": "locate",
        "load": "build_identified build_with load_model load_parameters load_state_dict "
        "load_weights",
        "pretrained": "PRETRAINED Pretrained named",
        "read": "Parameters file_fields identify read_parameters",
        "save": "Conversion check_writable convert save_model",
        "torch_file": "read_torch",
    },
)
