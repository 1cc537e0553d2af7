r"""Convert between timm's parameter names and layouts and ours.

timm has two kinds of normalizer-free networks, with the same parameter names.

``dm_nfnet_*`` are the authors' networks with the authors' parameters. Values are copied unchanged
in both directions, and our networks compute the authors' function. timm's own code computes a
slightly different function, because it uses ``var + 1e-5`` in the weight standardization and the
exact GELU.

All others (``nf_resnet50``, ``nf_regnet_b1``, ``nfnet_f0``, …) were trained with timm's
formulation: γ multiplies every convolution instead of every activation, and there is no SkipInit
gain. Their function is preserved by moving constants,

.. math::
    g' = g\,\gamma\,\sqrt{\frac{\max(N\sigma^2, \varepsilon)}{N(\sigma^2 + 10^{-5})}},
    \qquad W'_\text{classifier} = W_\text{classifier} / \gamma, \qquad \text{skip gain} = 1

where :math:`g'` includes γ only if no activation precedes the convolution (the first one of the
stem and the last one of the network). Elsewhere our activation already multiplies by γ.

They pad strided convolutions at both sides (``padding="symmetric"``), unlike the authors' networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from normfree.errors import UserError
from normfree.models import ClassifierConfig, NFRegNetConfig, model_config
from normfree.nn import ACTIVATIONS, ScaledActivation

_BLOCK = {
    "conv1": "conv0",
    "conv2": "conv1",
    "conv2b": "conv1b",
    "conv3": "conv2",
    "downsample.conv": "shortcut.conv",
    "attn.fc1": "squeeze_excite.fc0",
    "attn.fc2": "squeeze_excite.fc1",
    "attn_last.fc1": "squeeze_excite.fc0",
    "attn_last.fc2": "squeeze_excite.fc1",
    "attn_last.conv": "squeeze_excite",
}
_REST = {
    "stem.conv": "stem.conv",
    **{f"stem.conv{i + 1}": f"stem.conv{i}" for i in range(4)},
    "final_conv": "head.conv",
    "head.fc": "classifier",
}
_IN_BLOCK = re.compile(r"(stages\.\d+\.\d+)\.(?:(.+)\.)?(\w+)")
_FIRST = ("stem.conv", "stem.conv0")
_ALPHA, _FLOOR, _EPS = 0.2, 1e-4, 1e-5

#: Fields that make our networks equal to timm's networks of the same name.
RESNET: Mapping[str, Any] = MappingProxyType({"pool_shortcut": True, "padding": "symmetric"})
REGNET: Mapping[str, Any] = MappingProxyType({"channel_divisor": 8, "padding": "symmetric"})
#: timm trained these at 256 pixels and tests them at 288.
SIZES: Mapping[str, Any] = MappingProxyType({"train_size": 256, "test_size": 288})

#: timm's name → our name, and the fields that make our network equal to timm's.
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        **{f"dm_nfnet_f{i}": (f"nfnet_f{i}", {}) for i in range(7)},
        **{name: (name, {}) for name in ("nfnet_l0", *(f"eca_nfnet_l{i}" for i in range(3)))},
        **{f"nf_resnet{n}": (f"nf_resnet{n}", RESNET) for n in (50, 101)},
        **{f"nf_regnet_b{i}": (f"nf_regnet_b{i}", REGNET) for i in range(6)},
    }
)


def parameter_name(timm: str) -> str:
    """Our name for a parameter of timm's normalizer-free networks.

    Raises:
        UserError: none of these networks has this parameter.

    Example:
        >>> parameter_name("stages.2.0.conv2b.gain"), parameter_name("head.fc.weight")
        ('stages.2.0.conv1b.gain', 'classifier.weight')
        >>> parameter_name("stages.0.0.skipinit_gain")
        'stages.0.0.skip_gain'
    """
    if match := _IN_BLOCK.fullmatch(timm):
        block, module, parameter = match.groups()
        if module in _BLOCK:
            return f"{block}.{_BLOCK[module]}.{parameter}"
        if module is None and parameter == "skipinit_gain":
            return f"{block}.skip_gain"
    module, _, parameter = timm.rpartition(".")
    if module not in _REST:
        raise UserError(f"none of timm's normalizer-free networks has a parameter {timm!r}")
    return f"{_REST[module]}.{parameter}"


def has_timm_names(names: Iterable[str]) -> bool:
    """Whether these are timm's names rather than ours.

    >>> has_timm_names(["stages.0.0.conv3.weight"]), has_timm_names(["stages.0.0.conv2.weight"])
    (True, False)
    """
    return any(re.match(r"head\.fc\.|final_conv\.|stages\..+\.conv3\.", name) for name in names)


def is_authors(names: Iterable[str]) -> bool:
    """Whether these are the authors' parameters; in timm only ``dm_nfnet_*`` have SkipInit."""
    return any(name.endswith(".skipinit_gain") for name in names)


def structural_fields(parameters: Mapping[str, Tensor]) -> Mapping[str, Any]:
    """The configuration fields that make our network equal to timm's."""
    if "stem.conv.weight" not in parameters:
        return {}
    return RESNET if parameters["stem.conv.weight"].shape[-1:] == (7,) else REGNET


def rename(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert to our names and shapes without changing values: gains (c,), linear layers (o, i)."""
    return {(ours := parameter_name(k)): _our_shape(ours, v) for k, v in parameters.items()}


def state_dict(parameters: Mapping[str, Tensor], config: ClassifierConfig) -> dict[str, Tensor]:
    """Convert timm's parameters to our state dict.

    Args:
        parameters: timm's name → value.
        config: configuration of our network.

    Returns:
        The same values for ``dm_nfnet_*``; for others, values that give the same function.
    """
    state = rename(parameters)
    if is_authors(parameters):
        return state
    gamma = ScaledActivation(config.activation, config.gain).gain
    for conv in _convolutions(state):
        scale = _gain_scale(state[f"{conv}.weight"], gamma if _bare(conv) else 1.0)
        state[f"{conv}.gain"] = _times(state[f"{conv}.gain"], scale)
        if match := re.fullmatch(r"(stages\.\d+\.\d+)\.conv2", conv):
            state[f"{match[1]}.skip_gain"] = torch.ones((), dtype=state[f"{conv}.gain"].dtype)
    if "classifier.weight" in state:
        state["classifier.weight"] = _times(state["classifier.weight"], 1 / gamma)
    return state


def timm_model(config: Any) -> str:
    """The name in timm of one of our networks.

    Raises:
        UserError: timm has no such network.

    Example:
        >>> timm_model(model_config("nfnet_f0", num_classes=10))
        'dm_nfnet_f0'
        >>> timm_model(model_config("nf_resnet50"))
        Traceback (most recent call last):
        normfree.errors.UserError: timm has no network like this nf_resnet50; ...
    """
    for timm, (ours, fields) in MODELS.items():
        if model_config(ours, **fields).structure() == config.structure():
            return timm
    raise UserError(
        f"timm has no network like this {config.name}; it has nfnet_f0 to f6, nfnet_l0, "
        "eca_nfnet_l0 to l2, nf_resnet50 and 101 "
        "with pool_shortcut=True, and nf_regnet_b0 to b5 with channel_divisor=8, both with "
        "padding='symmetric'"
    )


def parameters(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Convert our state dict to timm's parameters.

    Args:
        state: state dict of our network.
        config: configuration of that network.

    Returns:
        timm's name → value, for the network that :func:`timm_model` names. Values are unchanged
        for ``dm_nfnet_*``. For others, timm computes the same function, with the SkipInit gains
        absorbed into the convolutions.

    Raises:
        UserError: timm has no such network.
    """
    authors = timm_model(config).startswith("dm_")
    state = dict(state)
    if not authors:
        _to_timm_scales(state, ACTIVATIONS[config.activation].gain)
    attention = "attn" if isinstance(config, NFRegNetConfig) else "attn_last"
    theirs = {ours: timm for timm, ours in _BLOCK.items() if not timm.startswith("attn")}
    theirs |= {f"squeeze_excite.fc{i}": f"{attention}.fc{i + 1}" for i in range(2)}
    theirs["squeeze_excite"] = f"{attention}.conv"
    rest = {ours: timm for timm, ours in _REST.items()}
    renamed = {}
    for name, value in state.items():
        match = _IN_BLOCK.fullmatch(name)
        if match is None:
            module, _, parameter = name.rpartition(".")
            timm = f"{rest[module]}.{parameter}"
        elif match[2] is None:
            timm = f"{match[1]}.skipinit_gain"
        else:
            timm = f"{match[1]}.{theirs[match[2]]}.{match[3]}"
        renamed[timm] = _their_shape(timm, value)
    return renamed


def _to_timm_scales(state: dict[str, Tensor], gamma: float) -> None:
    for conv in _convolutions(state):
        scale = 1 / _gain_scale(state[f"{conv}.weight"], gamma if _bare(conv) else 1.0)
        if match := re.fullmatch(r"(stages\.\d+\.\d+)\.conv2", conv):
            skip = state.pop(f"{match[1]}.skip_gain").double()
            scale = scale * skip
            state[f"{conv}.bias"] = _times(state[f"{conv}.bias"], skip)
        state[f"{conv}.gain"] = _times(state[f"{conv}.gain"], scale)
    if "classifier.weight" in state:
        state["classifier.weight"] = _times(state["classifier.weight"], gamma)


def _convolutions(state: Mapping[str, Tensor]) -> list[str]:
    return [name.removesuffix(".gain") for name in state if name.endswith(".gain")]


def _bare(conv: str) -> bool:
    """Whether no activation precedes a convolution."""
    return conv in (*_FIRST, "head.conv")


def _gain_scale(weight: Tensor, gamma: float) -> Tensor:
    variance = weight.double().var(dim=(1, 2, 3), correction=0)
    fan_in = weight[0].numel()
    floored = (variance * fan_in).clamp(min=_FLOOR)
    return gamma * torch.sqrt(floored / (fan_in * (variance + _EPS)))


def _times(value: Tensor, scale: Tensor | float) -> Tensor:
    return (value.double() * scale).to(value.dtype)


def _our_shape(name: str, value: Tensor) -> Tensor:
    if name.endswith((".gain", ".squeeze_excite.weight")):
        return value.reshape(-1)
    return value[:, :, 0, 0] if ".squeeze_excite." in name and value.ndim == 4 else value


def _their_shape(name: str, value: Tensor) -> Tensor:
    if name.endswith(".gain"):
        return value.reshape(-1, 1, 1, 1)
    if re.search(r"\.attn.*\.weight", name):
        return value[None, None] if value.ndim == 1 else value[:, :, None, None]
    return value
