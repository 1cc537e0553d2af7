"""The scaled form of an activation, whether it is a layer, a function or a method."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

from normfree.nn import ACTIVATIONS, ScaledActivation

#: Spellings without underscores → names in :mod:`torch.nn.functional`.
_NAMES = {
    name.replace("_", ""): name
    for name in (
        *("celu", "elu", "gelu", "hardswish", "leaky_relu", "logsigmoid", "mish", "relu", "relu6"),
        *("selu", "silu", "softplus", "softsign", "tanh"),
    )
} | {"swish": "silu", "gelutanh": "gelu"}

#: Options that change the function, with the values that :data:`ACTIVATIONS` uses.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "celu": {"alpha": 1.0},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": "tanh"},
    "leaky_relu": {"negative_slope": 0.01},
    "softplus": {"beta": 1.0, "threshold": 20.0},
}
#: What PyTorch uses where the call does not say.
_PYTORCH = {"gelu": {"approximate": "none"}}

#: Our names that differ from PyTorch's.
_OURS = {"logsigmoid": "log_sigmoid", "softsign": "soft_sign"}


def scaled_layer(layer: nn.Module) -> ScaledActivation | None:
    """The variance-preserving form of an activation layer, of PyTorch or timm; None for others.

    >>> scaled_layer(nn.ReLU(inplace=True)), scaled_layer(nn.MaxPool2d(2))
    (ScaledActivation(relu, gain=1.71396), None)
    >>> scaled_layer(nn.GELU())  # not the tanh approximation of the authors
    ScaledActivation(gelu, gain=1.70093)
    """
    spelled = type(layer).__name__.lower()
    name = _NAMES.get(spelled)
    if name is None:
        return None
    given = {key: getattr(layer, key) for key in _OPTIONS.get(name, ()) if hasattr(layer, key)}
    if spelled == "gelutanh":
        given = {"approximate": "tanh"}
    return _scaled(name, given)


def scaled_call(node: fx.Node) -> ScaledActivation | None:
    """The same for a call of a function or method, such as ``F.relu(x)`` or ``x.relu_()``."""
    if node.op not in ("call_function", "call_method"):
        return None
    spelled = getattr(node.target, "__name__", str(node.target))
    name = _NAMES.get(spelled.lower().replace("_", ""))
    if name is None:
        return None
    keys = _OPTIONS.get(name, {})
    given = dict(zip(keys, node.args[1:], strict=False))
    return _scaled(name, given | {k: v for k, v in node.kwargs.items() if k in keys})


def _scaled(name: str, given: Mapping[str, Any]) -> ScaledActivation:
    authors = _OPTIONS.get(name, {})
    options = {**authors, **_PYTORCH.get(name, {}), **given}
    ours = _OURS.get(name, name)
    if options == authors and ours in ACTIVATIONS:
        return ScaledActivation(ours)
    function = getattr(F, name)
    if not options:
        return ScaledActivation(function)
    bound = partial(function, **options)
    bound.__name__ = name  # type: ignore[attr-defined]
    return ScaledActivation(bound)
