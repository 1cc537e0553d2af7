"""Build the network that a file describes, first on the meta device, where shapes are free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normfree.errors import UserError
from normfree.models import ClassifierConfig, ImageClassifier, build_model, model_config
from normfree.weights.card import check_network


def network_config(fields: Mapping[str, Any]) -> ClassifierConfig:
    """The configuration of a network from its fields, including ``name``.

    Raises:
        UserError: no network has this configuration.
    """
    try:
        return model_config(**fields)
    except UserError as error:
        raise UserError(str(error)[:500]) from None


def build_on_meta(name: str, fields: Mapping[str, Any]) -> ImageClassifier:
    """Build a network on the meta device, without memory for its parameters.

    Args:
        name: name of the network.
        fields: fields of its configuration, from a file or the caller.

    Raises:
        UserError: no network has this configuration.
    """
    check_network({**fields, "name": name})
    try:
        return build_model(name, device="meta", **fields)
    except UserError as error:
        raise UserError(str(error)[:500]) from None
    except (ArithmeticError, TypeError, ValueError, RuntimeError, IndexError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"cannot build {name} with these fields: {said}") from None
