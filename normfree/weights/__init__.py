"""Weights in and out of files."""

from normfree.weights.hub import locate
from normfree.weights.load import load_model, load_parameters, load_state_dict, load_weights
from normfree.weights.pretrained import PRETRAINED, Pretrained
from normfree.weights.read import KEY, Parameters, file_fields, identify, read_parameters
from normfree.weights.save import Conversion, convert, default_card, save_model

__all__ = [
    "KEY",
    "PRETRAINED",
    "Conversion",
    "Parameters",
    "Pretrained",
    "convert",
    "default_card",
    "file_fields",
    "identify",
    "load_model",
    "load_parameters",
    "load_state_dict",
    "load_weights",
    "locate",
    "read_parameters",
    "save_model",
]
