"""The smoke form of a recipe: everything it switches on, in two steps of a second."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import yaml

from normfree.models import model_config
from normfree.train.config import Recipe

#: Two batches of images; a quarter as many are the test.
_BATCH, _CLASSES = 8, 4
_TRAIN_SIZE, _TEST_SIZE = 32, 40
_DEPTHS = [1, 1, 2, 1]


def smoke(recipe: Recipe) -> Recipe:
    """Two optimizer steps of a recipe on synthetic images, on a shrunk network.

    The network keeps its family, its options and the proportions of its widths, at a sixteenth; it
    has five blocks and images of 32 pixels. Optimizer, clipping, mixing, RandAugment, SAM,
    schedule, averages and arithmetic are the recipe's; warm-up takes one step. The weights start
    from the seed, also where the recipe starts from a file.

    Args:
        recipe: any.

    Returns:
        A recipe that a CPU runs in about a second.

    >>> from normfree.recipes import get_recipe
    >>> small = smoke(get_recipe("imagenet_nfnet_f3"))
    >>> small.steps, small.data, small.mixing
    (2, 'synthetic:16x32x3x4', 'mixup_cutmix')
    >>> small.model_options[0]
    'widths=[16, 32, 96, 96]'
    """
    return replace(
        recipe,
        name=f"{recipe.name}_smoke",
        data=f"synthetic:{2 * _BATCH}x{_TRAIN_SIZE}x3x{_CLASSES}",
        model_options=_shrunk(recipe),
        num_classes=None,
        init=None,
        freeze=0,
        train_size=_TRAIN_SIZE,
        test_size=_TEST_SIZE if recipe.augment == "crop_flip" else _TRAIN_SIZE,
        epochs=1,
        steps=2,
        warmup_steps=min(1.0, recipe.warmup_epochs),
        batch_size=_BATCH,
        accumulate=min(recipe.accumulate, _BATCH),
        mean=None,
        std=None,
        workers=0,
        compile=False,
        log_every=1,
        out=None,
        resume=False,
    )


def _shrunk(recipe: Recipe) -> tuple[str, ...]:
    """Model options: those of the recipe, narrower and not as deep."""
    pairs = (option.partition("=")[::2] for option in recipe.model_options)
    options: dict[str, Any] = {field: yaml.safe_load(value) for field, value in pairs}
    config = model_config(recipe.model, **options)
    smaller: dict[str, Any] = {
        "widths": [max(8, width // 128 * 8) for width in config.widths],
        "depths": _DEPTHS,
    }
    if hasattr(config, "group_widths"):
        smaller["group_widths"] = [min(16, width) for width in config.group_widths]
    return tuple(
        f"{field}={json.dumps(value)}" for field, value in {**smaller, **options, **smaller}.items()
    )
