"""The smoke form of a recipe: everything it switches on, in two steps of a second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from normfree.train.components import Batch, Place, Steps
from normfree.train.recipe import Recipe

#: Two batches of images; a quarter as many are the test.
_BATCH, _CLASSES = 8, 4
_TRAIN_SIZE, _TEST_SIZE = 32, 40
_DEPTHS = [1, 1, 2, 1]


def smoke(recipe: Recipe) -> Recipe:
    """Two optimizer steps of a recipe on synthetic images, on a shrunk network.

    The network keeps its family, its options and the proportions of its widths, at a sixteenth; it
    has five blocks and images of 32 pixels. Optimizer, clipping, mixing, RandAugment, SAM,
    schedule, averages and arithmetic are the recipe's; warm-up takes one step. The weights start
    from scratch, also where the recipe starts from a file.

    Args:
        recipe: any.

    Returns:
        A recipe that a CPU runs in about a second.

    >>> from normfree.recipes import get_recipe
    >>> small = smoke(get_recipe("imagenet_nfnet_f3"))
    >>> small.length, small.data.source, small.augment.mixing.kind
    (Steps(steps=2), 'synthetic:16x32x3x4', 'mixup_cutmix')
    >>> small.model.options["widths"]
    [16, 32, 96, 96]
    """
    photographs = recipe.augment.photographs
    plain = replace(
        recipe,
        name=f"{recipe.name}_smoke",
        data=replace(
            recipe.data,
            source=f"synthetic:{2 * _BATCH}x{_TRAIN_SIZE}x3x{_CLASSES}",
            mean=None,
            std=None,
            workers=0,
        ),
        model=replace(
            recipe.model,
            options=_shrunk(recipe),
            num_classes=None,
            init=None,
            freeze=0,
            train_size=_TRAIN_SIZE,
            test_size=_TEST_SIZE if photographs else _TRAIN_SIZE,
        ),
        batch=Batch(size=_BATCH, accumulate=min(recipe.batch.accumulate, 2)),
        length=Steps(steps=2),
        compute=replace(recipe.compute, compile=False),
        loop=replace(recipe.loop, log_every=1),
        place=Place(),
    )
    return plain.override(warmup_steps=float(recipe.schedule.warmup.steps(2.0, 2) > 0))


def _shrunk(recipe: Recipe) -> dict[str, Any]:
    """The recipe's options, for a network that is narrower and not as deep."""
    from normfree.models import model_config

    options = recipe.model.options
    config = model_config(recipe.model.name, **options)
    smaller: dict[str, Any] = {
        "widths": [max(8, width // 128 * 8) for width in config.widths],
        "depths": _DEPTHS,
    }
    if hasattr(config, "group_widths"):
        smaller["group_widths"] = [min(16, width) for width in config.group_widths]
    return {**options, **smaller}
