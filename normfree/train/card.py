"""What a run says of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from normfree.train.resolve import Resolved
from normfree.weights import ModelCard, read_card


def make_card(resolved: Resolved, metrics: Mapping[str, Any]) -> ModelCard:
    """What a reader of the weights has to know; the same for equal runs, wherever they lie."""
    recipe = resolved.recipe
    return read_card(
        {
            "model": resolved.model,
            "classes": resolved.classes,
            "mean": resolved.mean,
            "std": resolved.std,
            "test_size": resolved.test_size,
            "test_margin": resolved.test_margin,
            "test_crop": recipe.test_crop,
            "loss": recipe.loss,
            "normfree": version("normfree"),
            "recipe": recipe.name,
            "data": recipe.data,
            "metrics": dict(metrics),
        },
        recipe.name,
    )
