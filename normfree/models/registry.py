"""The registry of networks by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import torch

from normfree.errors import UserError, unknown_name
from normfree.models import nf_regnet, nf_resnet, nfnet_variants
from normfree.models.classifier import ImageClassifier
from normfree.models.config import ClassifierConfig
from normfree.models.nf_regnet import NFRegNet
from normfree.models.nf_resnet import NFResNet
from normfree.models.nfnet import NFNet

_models: dict[str, tuple[type[ImageClassifier], Any]] = {}

#: Name → (network class, configuration).
MODELS: Mapping[str, tuple[type[ImageClassifier], Any]] = MappingProxyType(_models)


def register_family(network: type[ImageClassifier], configs: Iterable[ClassifierConfig]) -> None:
    """Register the variants of a family by name.

    Args:
        network: class of the family.
        configs: one configuration per variant.

    Raises:
        UserError: a name is already registered.

    Example:
        >>> register_family(NFNet, [model_config("nfnet_f0")])
        Traceback (most recent call last):
        normfree.errors.UserError: a network named 'nfnet_f0' is already registered
    """
    configs = list(configs)
    for config in configs:
        if config.name in _models:
            raise UserError(f"a network named {config.name!r} is already registered")
    _models.update({config.name: (network, config) for config in configs})


register_family(NFNet, nfnet_variants.CONFIGS)
register_family(NFResNet, nf_resnet.CONFIGS)
register_family(NFRegNet, nf_regnet.CONFIGS)


def list_models(pattern: str = "*") -> list[str]:
    """List the names of the networks, ordered by family.

    Args:
        pattern: pattern with shell wildcards; matches everything by default.

    Example:
        >>> list_models("nfnet_f?")[:3]
        ['nfnet_f0', 'nfnet_f1', 'nfnet_f2']
    """
    return [name for name in MODELS if fnmatchcase(name, pattern)]


def model_config(name: str, **fields: Any) -> Any:
    """The configuration of a network, with some fields overridden.

    Args:
        name: name of the network.
        fields: values for any fields of its configuration.

    Raises:
        UserError: the network or a field is unknown, or a value is invalid.

    Example:
        >>> model_config("nfnet_f0", num_classes=10).num_classes
        10
        >>> model_config("nfnet_f0", droprate=0.1)
        Traceback (most recent call last):
        normfree.errors.UserError: unknown field of nfnet_f0 'droprate'; did you mean drop_rate?
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    _, config = MODELS[name]
    known = {field.name for field in dataclasses.fields(config)}
    for field in fields:
        if field not in known:
            raise unknown_name(f"field of {name}", field, known)
    return dataclasses.replace(config, **fields)


def build_model(
    name: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **fields: Any,
) -> ImageClassifier:
    """Build a network by name, with freshly initialized parameters.

    Args:
        name: name of the network.
        device: device of the parameters; ``"meta"`` allocates no memory.
        dtype: data type of the parameters.
        fields: values for any fields of its configuration.

    Raises:
        UserError: the network or a field is unknown, or a value is invalid.

    Example:
        >>> build_model("nfnet_pico", num_classes=10, in_channels=1)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    config = model_config(name, **fields)
    network, _ = MODELS[name]
    return network(config, device=device, dtype=dtype)
