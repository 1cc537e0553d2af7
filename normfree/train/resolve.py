"""What follows from a recipe, its model and its data: derived once, last, from the final values."""

from __future__ import annotations

import hashlib
import os.path
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import JsonValue

from normfree.data import Source
from normfree.data.balance import class_weights
from normfree.device import find_device
from normfree.errors import UserError
from normfree.schema import Field, record
from normfree.train.order import check_single
from normfree.train.recipe import Recipe
from normfree.train.span import Span

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@record
class Resolved:
    """A recipe and all that was derived from it.

    Attributes:
        recipe: the settings.
        model: the network's whole configuration; ``create_model(**model)`` builds it.
        classes: names of the classes, in the order of the labels.
        clipping: AGC's λ, or the largest norm of the whole gradient; None does not clip.
        randaugment_magnitude: strength of RandAugment's operations; 0 if there is none.
        train_images: N.
        train_data: a hash of the names and labels of the training images, by which a resumed run
            recognizes them.
        val_images: images of the validation split, which selects weights.
        test_images: images of the test split, which is looked at once, at the end; 0 if there is
            none.
        steps_per_epoch: N / B, not rounded.
        epochs: passes over N images, the last one perhaps not a whole one.
        total_steps: ⌊epochs · N / B⌋, unless the recipe says it outright.
        warmup_steps: warmup_epochs · N / B, or warmup_fraction of all steps, not rounded, unless
            the recipe says it outright.
        peak_lr: base_lr · B / 256, unless the recipe says it outright.
        train_size: side of a training image, pixels.
        test_size: side of an evaluation image, pixels.
        test_margin: pixels that an evaluation image is resized larger than its center crop.
        mean: per channel, 0..255.
        std: per channel, 0..255.
        device: where the run computes.
        class_weights: of each class in the loss; None where all count the same.
    """

    recipe: Recipe
    model: dict[str, JsonValue]
    classes: tuple[str, ...]
    clipping: float | None
    randaugment_magnitude: float
    train_images: int = Field(gt=0)
    train_data: str
    val_images: int
    test_images: int
    epochs: int
    steps_per_epoch: float
    total_steps: int = Field(gt=0)
    warmup_steps: float
    peak_lr: float
    train_size: int
    test_size: int
    test_margin: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str
    class_weights: tuple[float, ...] | None = None

    @property
    def span(self) -> Span:
        """How long the run is, in steps and epochs."""
        return Span(
            images=self.train_images, batch_size=self.recipe.batch.size, steps=self.total_steps
        )

    @property
    def outputs(self) -> int:
        """Of the classifier."""
        outputs = self.model["num_classes"]
        assert isinstance(outputs, int)
        return outputs


def resolve(
    recipe: Recipe,
    train: Source,
    val: Source,
    test: Source | None = None,
    inferred: Mapping[str, Any] = _NOTHING,
    *,
    device: str | None = None,
    world: int = 1,
) -> Resolved:
    """Derive every value that depends on others.

    Args:
        recipe: final settings, all overrides made.
        train: the training images.
        val: the images that select weights.
        test: the images that are looked at once, if there are such.
        inferred: fields of the model's configuration that its weights ask for, where the recipe is
            silent.
        device: of this rank; None finds that of the recipe.
        world: number of ranks.

    Raises:
        UserError: settings, model and data that do not go together.
    """
    images, batch = len(train), recipe.batch.size
    if batch > images:
        raise UserError(
            f"a batch of {batch} is larger than the {images} training images of "
            f"{recipe.data.source}; lower --batch-size to {images} or less"
        )
    _check_loss(recipe, train)
    model = recipe.model.config(
        classes=len(train.classes),
        channels=train.channels,
        source=recipe.data.source,
        inferred=inferred,
    )
    _check_statistics(recipe, model["normalization"], world)
    _check_ranks(recipe, world)
    mean, std = recipe.data.statistics(train)
    steps_per_epoch, total_steps = images / batch, recipe.length.total_steps(images, batch)
    randaugment = recipe.augment.randaugment
    return Resolved(
        recipe=recipe,
        model=model,
        classes=tuple(train.classes),
        clipping=None if recipe.clipping is None else recipe.clipping.limit(batch),
        randaugment_magnitude=0.0
        if randaugment is None
        else randaugment.strength(recipe.model.name, model["randaugment_magnitude"]),
        train_images=images,
        train_data=_fingerprint(train),
        val_images=len(val),
        test_images=0 if test is None else len(test),
        epochs=recipe.length.total_epochs(images, batch),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        warmup_steps=recipe.schedule.warmup.steps(steps_per_epoch, total_steps),
        peak_lr=recipe.optimizer.rate.peak(batch),
        train_size=model["train_size"],
        test_size=model["test_size"],
        test_margin=recipe.data.margin(model["test_size"], photographs=recipe.augment.photographs),
        mean=mean,
        std=std,
        device=find_device(recipe.compute.device) if device is None else device,
        class_weights=_class_weights(recipe, train),
    )


def _class_weights(recipe: Recipe, train: Source) -> tuple[float, ...] | None:
    """By which every class has the same share of the loss."""
    check_single(recipe.data, train)
    if recipe.data.balance != "weights":
        return None
    return tuple(class_weights(train.labels, len(train.classes)).tolist())


def _check_loss(recipe: Recipe, train: Source) -> None:
    """Several labels an image are no distribution over the classes, which softmax compares with."""
    if train.labels.ndim == 2 and recipe.loss.kind == "softmax":
        raise UserError(
            f"the images of {recipe.data.source} have several labels each, so that each class is a "
            "decision of its own: train with --loss sigmoid"
        )


def _check_statistics(recipe: Recipe, normalization: str, world: int) -> None:
    """Batch normalization needs two images wherever it takes their mean."""
    fewest = recipe.batch.size // (recipe.batch.accumulate * world)
    if recipe.sam is not None:
        fewest = min(fewest, round(fewest * recipe.sam.fraction))
    if normalization == "batch" and fewest < 2:
        raise UserError(
            "a batch-normalized network takes its statistics from two or more images at a time; "
            "lower --accumulate, or raise --batch-size or --sam-fraction"
        )
    if world > 1 and recipe.ranks.statistics == "synchronized" and recipe.sam is not None:
        raise UserError(
            "--batch-statistics synchronized does not go with --sam-rho, for which ranks may make "
            "passes of their own; choose --batch-statistics replica"
        )


def _check_ranks(recipe: Recipe, world: int) -> None:
    """Orthogonal steps are of whole weights."""
    if world > 1 and recipe.ranks.kind != "ddp" and recipe.optimizer.kind == "muon":
        raise UserError(
            f"--optimizer muon needs whole weights, of which --parallel {recipe.ranks.kind} leaves "
            "each rank a part; choose --parallel ddp, or another --optimizer"
        )


def _fingerprint(source: Source) -> str:
    """A short hash of names and labels; a directory may move, so what its files share is left out.

    Files are not opened: an image that is fixed does not make it another run. Names are asked for
    one at a time, because there may be millions.
    """
    count = len(source)
    parts = lambda index: source.name(index).split("/")  # noqa: E731
    first, last = (source.name(pick(range(count), key=parts)) for pick in (min, max))
    shared = len(os.path.commonpath([first, last]))  # that of the extremes is that of all
    content = hashlib.blake2b(digest_size=8)
    for index in range(count):
        line = "\n" * (index > 0) + source.name(index)[shared:]
        content.update(line.encode("utf-8", "surrogateescape"))
    labels = source.labels
    content.update((np.packbits(labels) if labels.ndim == 2 else labels.astype("<i8")).tobytes())
    return content.hexdigest()
