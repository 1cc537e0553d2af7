"""Weights in and out of files."""

from normfree.weights.load import load_state_dict, load_weights

__all__ = ["load_state_dict", "load_weights"]
