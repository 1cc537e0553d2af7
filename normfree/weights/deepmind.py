"""Convert the authors' parameter names and layouts to ours.

Haiku names a parameter by the path of its modules and numbers all blocks of a network in one
sequence. Convolutions have the layout (height, width, in, out), linear layers (in, out).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from normfree.errors import UserError

_NETWORK = r"(?:NFNet|NF_ResNet|NF_RegNet)/~/"
_BLOCK = r"(nf_block|nf_res_block)(?:_(\d+))?/(?:~/)?"
_PATH = re.compile(rf"{_NETWORK}(?:{_BLOCK})?(?:(.+)/)?(\w+)")
_MODULES = {
    "": "",
    **{f"stem_conv{i}": f"stem.conv{i}." for i in range(4)},
    "initial_conv": "stem.conv.",
    **{name: f"{name}." for name in ("conv0", "conv1", "conv1b", "conv2")},
    "conv_shortcut": "shortcut.conv.",
    "squeeze_excite/~/linear": "squeeze_excite.fc0.",
    "squeeze_excite/~/linear_1": "squeeze_excite.fc1.",
    "final_conv": "head.conv.",
    "linear": "classifier.",
}
_PARAMETERS = {"w": "weight", "b": "bias"}


def parameter_name(haiku: str, depths: tuple[int, ...]) -> str:
    """Our name for a parameter of the authors' networks.

    Args:
        haiku: the module path and the parameter name, joined by ``/``.
        depths: number of blocks in each stage.

    Raises:
        UserError: none of the authors' networks has this parameter.

    Example:
        >>> parameter_name("NFNet/~/nf_block_3/~/conv1/w", depths=(1, 2, 6, 3))
        'stages.2.0.conv1.weight'
        >>> parameter_name("NFNet/~/nf_block/skip_gain", depths=(1, 2, 6, 3))
        'stages.0.0.skip_gain'
    """
    match = _PATH.fullmatch(haiku)
    if match is None or (match[3] or "") not in _MODULES:
        raise UserError(f"none of the authors' networks has a parameter {haiku!r}")
    block, number, module, parameter = match.groups()
    name = _MODULES[module or ""] + _PARAMETERS.get(parameter, parameter)
    if block is None:
        return name
    places = [(stage, place) for stage, depth in enumerate(depths) for place in range(depth)]
    if int(number or 0) >= len(places):
        raise UserError(f"{haiku!r} belongs to a network with more than {len(places)} blocks")
    stage, place = places[int(number or 0)]
    return f"stages.{stage}.{place}.{name}"


def block_count(names: Iterable[str]) -> int:
    """Number of blocks in one of the authors' networks.

    >>> block_count(["NFNet/~/nf_block/skip_gain", "NFNet/~/nf_block_1/~/conv0/w"])
    2
    """
    matches = filter(None, map(_PATH.fullmatch, names))
    return len({match[2] for match in matches if match[1]})


def parameter_layout(value: np.ndarray) -> Tensor:
    """HWIO → OIHW, IO → OI; vectors and scalars are unchanged.

    >>> parameter_layout(np.zeros((3, 3, 8, 16))).shape
    torch.Size([16, 8, 3, 3])
    """
    if value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    elif value.ndim == 2:
        value = value.T
    return torch.from_numpy(np.array(value, order="C"))


def state_dict(parameters: Mapping[str, np.ndarray], depths: tuple[int, ...]) -> dict[str, Tensor]:
    """Convert the authors' parameters to our state dict.

    Args:
        parameters: maps the module path and parameter name, joined by ``/``, to the value.
        depths: number of blocks in each stage.

    Returns:
        A state dict in the original dtypes, ready for :func:`normfree.weights.load_state_dict`.
    """
    return {parameter_name(k, depths): parameter_layout(v) for k, v in parameters.items()}
