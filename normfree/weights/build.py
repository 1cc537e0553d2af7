"""A network as a file describes it, built without numbers first: shapes cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normfree.errors import UserError
from normfree.models import ClassifierConfig, ImageClassifier, build_model, model_config
from normfree.weights.card import check_network


def network_config(fields: Mapping[str, Any]) -> ClassifierConfig:
    """The configuration of a network from its fields, its name among them.

    Raises:
        UserError: no network is like this.
    """
    try:
        return model_config(**fields)
    except UserError as error:
        raise UserError(str(error)[:500]) from None


def build_on_meta(name: str, fields: Mapping[str, Any]) -> ImageClassifier:
    """The shapes of a network.

    Args:
        name: of the network.
        fields: of its configuration, as a file or a caller gives them.

    Raises:
        UserError: no network is like this.
    """
    check_network({**fields, "name": name})
    try:
        return build_model(name, device="meta", **fields)
    except UserError as error:
        raise UserError(str(error)[:500]) from None
    except (ArithmeticError, TypeError, ValueError, RuntimeError, IndexError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"no {name} can be built with these fields: {said}") from None
