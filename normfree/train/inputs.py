"""A run's transforms, from its configuration: what the loader does, and what the device stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normfree.augment import RandAugment
from normfree.data import (
    ArraySource,
    Ascent,
    BatchPlan,
    EvalTransform,
    Source,
    TrainTransform,
    Transform,
)
from normfree.data.plan import AscentScope
from normfree.train.config import Recipe
from normfree.train.device_transform import DeviceTransform
from normfree.train.resolve import Resolved


def make_plan(recipe: Recipe, examples: int) -> BatchPlan:
    """The micro-batches of a run."""
    scope: AscentScope = "batch" if recipe.sam_scope == "batch" else "micro_batch"
    return BatchPlan(
        seed=recipe.seed,
        examples=examples,
        batch_size=recipe.batch_size,
        mixing=recipe.mixing,
        pairing=recipe.pairing,
        accumulate=recipe.accumulate,
        ascent=Ascent(fraction=float(recipe.sam_fraction), scope=scope) if recipe.sam_rho else None,
    )


def make_transform(resolved: Resolved) -> DeviceTransform:
    """The device stage of a run."""
    recipe = resolved.recipe
    shifts = recipe.augment in ("shift", "shift_flip")
    return DeviceTransform(
        mean=resolved.mean,
        std=resolved.std,
        device=resolved.device,
        num_classes=resolved.model["num_classes"],
        label_smoothing=recipe.label_smoothing,
        channels_last=recipe.channels_last,
        shift=recipe.shift_padding if shifts else 0,
        flip=recipe.augment == "shift_flip",
        mixup_alpha=recipe.mixup_alpha,
        cutmix_alpha=recipe.cutmix_alpha,
        randaugment=RandAugment(
            recipe.randaugment_layers, resolved.randaugment_magnitude, quirks=recipe.quirks
        )
        if recipe.randaugment_layers
        else None,
    )


def train_transform(resolved: Resolved, source: Source) -> Transform | None:
    """What the loader does to a training image: random crops of photographs, else resizing."""
    if resolved.recipe.augment == "crop_flip":
        return TrainTransform(resolved.train_size, crop=resolved.recipe.crop)
    return _fitting(source, EvalTransform(resolved.train_size, margin=0))


def card_transform(card: Mapping[str, Any]) -> EvalTransform:
    """What is done to a test image.

    Args:
        card: says ``test_size``, ``test_margin`` and ``test_crop``; of a run or of a file.
    """
    keep_aspect = card.get("test_crop", "resize_crop") == "crop_resize"
    return EvalTransform(card["test_size"], card["test_margin"], keep_aspect)


def eval_transform(card: Mapping[str, Any], source: Source) -> Transform | None:
    """What the loader does to a test image; nothing where images have the right size already."""
    return _fitting(source, card_transform(card))


def _fitting(source: Source, transform: EvalTransform) -> Transform | None:
    """The transform, unless it would leave every image as it is."""
    size = (transform.size, transform.size)
    fits = isinstance(source, ArraySource) and source.pixels.shape[1:3] == size
    return None if fits and transform.margin == 0 else transform
