"""A run's transforms, from its configuration: what the loader does, and what the device stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from normfree.augment import RandAugment, draw_mix, mix, normalize, shift, to_bytes
from normfree.augment.mix import mix_bytes
from normfree.data import Batch, EvalTransform, Source, TrainTransform, Transform
from normfree.inference import source_transform
from normfree.nn.loss import soft_labels
from normfree.train.parts import Part
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
    return source_transform(EvalTransform(resolved.train_size, margin=0), source)


def eval_transform(resolved: Resolved, source: Source) -> Transform | None:
    """What the loader does to a test image; nothing where images have the right size already."""
    keep_aspect = resolved.recipe.test_crop == "crop_resize"
    transform = EvalTransform(resolved.test_size, resolved.test_margin, keep_aspect)
    return source_transform(transform, source)
