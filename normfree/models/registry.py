"""Every network by name."""

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
    """Make the variants of a family known by name.

    Args:
        network: the family's class.
        configs: one configuration a variant.

    Raises:
        UserError: a name is taken.

    Example:
        >>> register_family(NFNet, [model_config("nfnet_f0")])
        Traceback (most recent call last):
        normfree.errors.UserError: a network named 'nfnet_f0' is registered already
    """
    configs = list(configs)
    for config in configs:
        if config.name in _models:
            raise UserError(f"a network named {config.name!r} is registered already")
    _models.update({config.name: (network, config) for config in configs})


register_family(NFNet, nfnet_variants.CONFIGS)
register_family(NFResNet, nf_resnet.CONFIGS)
register_family(NFRegNet, nf_regnet.CONFIGS)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks, in the order of their families.

    Args:
        pattern: shell wildcards; everything by default.

    Example:
        >>> list_models("nfnet_f?")[:3]
        ['nfnet_f0', 'nfnet_f1', 'nfnet_f2']
    """
    return [name for name in MODELS if fnmatchcase(name, pattern)]


def model_config(name: str, **fields: Any) -> Any:
    """The configuration of a network, with some fields changed.

    Args:
        name: of the network.
        fields: any field of its configuration.

    Raises:
        UserError: no network has that name, or its configuration no such field.

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
    """A network by name, freshly initialized.

    Args:
        name: of the network.
        device: where the parameters live; ``"meta"`` builds shapes only.
        dtype: of the parameters.
        fields: any field of its configuration.

    Raises:
        UserError: no network has that name, or its configuration no such field.

    Example:
        >>> build_model("nfnet_pico", num_classes=10, in_channels=1)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    config = model_config(name, **fields)
    network, _ = MODELS[name]
    return network(config, device=device, dtype=dtype)
