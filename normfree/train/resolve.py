"""What follows from a recipe, its model and its data: derived once, last, from the final values."""

from __future__ import annotations

import hashlib
import math
import os.path
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import yaml

from normfree.augment import IMAGENET_MEAN, IMAGENET_STD
from normfree.data import ArraySource, Source, dataset_statistics
from normfree.device import find_device
from normfree.errors import UserError
from normfree.models import model_config
from normfree.optim import advised_clipping
from normfree.train.config import Recipe, recipe_from_dict, recipe_to_dict

#: Settings that may differ when a run goes on: they change neither the weights nor their order
#: (``on_bad_image`` does only from where the run could not have gone on at all).
FREE_ON_RESUME = frozenset(
    {
        *("name", "out", "resume", "workers", "device", "compile", "on_bad_image"),
        *("eval_every", "checkpoint_every", "keep_checkpoints", "log_every"),
    }
)


_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A recipe and all that was derived from it.

    Attributes:
        recipe: the settings.
        model: the network's whole configuration; ``create_model(**model)`` builds it.
        classes: names of the classes, in the order of the labels.
        clipping: AGC's λ, or the largest norm of the whole gradient; None does not clip.
        randaugment_magnitude: strength of RandAugment's operations; 0 if there is none.
        train_images: N.
        train_data: tells whether a resumed run finds the same training images: a hash of their
            names and labels. Empty in runs that were saved without it.
        test_images: images in the evaluation.
        steps_per_epoch: N / B, not rounded.
        epochs: passes over N images, the last one perhaps not a whole one.
        total_steps: ⌊epochs · N / B⌋, unless the recipe says it outright.
        warmup_steps: warmup_epochs · N / B, not rounded, unless the recipe says it outright.
        peak_lr: base_lr · B / 256, unless the recipe says it outright.
        train_size: side of a training image, pixels.
        test_size: side of a test image, pixels.
        test_margin: pixels that a test image is resized larger than its centre crop.
        mean: per channel, 0..255.
        std: per channel, 0..255.
        device: where the run computes.
    """

    recipe: Recipe
    model: dict[str, Any]
    classes: tuple[str, ...]
    clipping: float | None
    randaugment_magnitude: float
    train_images: int
    test_images: int
    epochs: int
    steps_per_epoch: float
    total_steps: int
    warmup_steps: float
    peak_lr: float
    train_size: int
    test_size: int
    test_margin: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str
    train_data: str = ""

    def epoch_end(self, epoch: int) -> int:
        """Steps done when ``epoch`` (from 1) is over: ⌊epoch · N / B⌋, and the last one's all."""
        return min(epoch * self.train_images // self.recipe.batch_size, self.total_steps)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that the step (from 0) belongs to."""
        return (step + 1) * self.recipe.batch_size // self.train_images + (
            (step + 1) * self.recipe.batch_size % self.train_images > 0
        )


def resolve(
    recipe: Recipe, train: Source, test: Source, told: Mapping[str, Any] = _NOTHING
) -> Resolved:
    """Derive every value that depends on others.

    Args:
        recipe: final settings, all overrides made.
        train: the training images.
        test: the images for evaluation.
        told: fields of the model's configuration that its weights ask for, where the recipe is
            silent.

    Raises:
        UserError: settings, model and data that do not go together.
    """
    classes = tuple(train.classes)
    own = _model_fields(recipe, len(classes), train.channels)
    model = model_config(recipe.model, **{**told, **own})
    if model.num_classes < len(classes):
        raise UserError(
            f"--num-classes {model.num_classes} is fewer than the {len(classes)} classes of "
            f"{recipe.data}; leave it out or raise it"
        )
    n, b = len(train), recipe.batch_size
    _check_statistics(recipe, model.normalization)
    total_steps = _first(recipe.steps, recipe.epochs * n // b)
    if total_steps == 0:
        raise UserError(
            f"{recipe.epochs} epochs of {n} images are not one batch of {b}; lower --batch-size"
        )
    mean, std = _statistics(recipe, train)
    return Resolved(
        recipe=recipe,
        model=asdict(model),
        classes=classes,
        clipping=advised_clipping(b) if recipe.clipping == "auto" else recipe.clipping,
        randaugment_magnitude=_magnitude(recipe, model.randaugment_magnitude),
        train_images=n,
        train_data=_fingerprint(train),
        test_images=len(test),
        epochs=recipe.epochs if recipe.steps is None else math.ceil(total_steps * b / n),
        steps_per_epoch=n / b,
        total_steps=total_steps,
        warmup_steps=_first(recipe.warmup_steps, recipe.warmup_epochs * n / b),
        peak_lr=_first(recipe.lr, recipe.base_lr * b / 256),
        train_size=model.train_size,
        test_size=model.test_size,
        test_margin=_first(recipe.test_margin, _margin(recipe, model.test_size)),
        mean=mean,
        std=std,
        device=find_device(recipe.device),
    )


def _model_fields(recipe: Recipe, classes: int, channels: int) -> dict[str, Any]:
    values: dict[str, Any] = {"in_channels": channels, "num_classes": classes}
    for option in recipe.model_options:
        field, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--model-options takes field=value, not {option!r}")
        if field == "name":
            raise UserError("--model-options cannot set name; choose the network with --model")
        try:
            values[field] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"--model-options {option!r} is not field=value in YAML, such as stem_stride=1 or "
                "widths=[16, 32, 64, 64]"
            ) from error
    if values["in_channels"] != channels:
        raise UserError(
            f"--model-options in_channels={values['in_channels']} does not fit {recipe.data}, "
            f"whose images have {channels} channels; leave it out"
        )
    if recipe.activation_checkpointing:
        values["activation_checkpointing"] = "block"
    own = ("activation", "drop_rate", "stochastic_depth_rate", "num_classes")
    for field in (*own, "train_size", "test_size"):
        if getattr(recipe, field) is not None:
            values[field] = getattr(recipe, field)
    return values


def _margin(recipe: Recipe, test_size: int) -> int:
    return min(32, test_size // 8) if recipe.augment == "crop_flip" else 0


def _check_statistics(recipe: Recipe, normalization: str) -> None:
    """Batch normalization needs two images wherever it takes their mean."""
    fewest = recipe.batch_size // recipe.accumulate
    if recipe.sam_rho:
        fewest = min(fewest, round(fewest * recipe.sam_fraction))
    if normalization == "batch" and fewest < 2:
        raise UserError(
            "a batch-normalized network takes its statistics from two or more images at a time; "
            "lower --accumulate, or raise --batch-size or --sam-fraction"
        )


def _magnitude(recipe: Recipe, of_model: int) -> float:
    """Strength of RandAugment: the recipe's, else the model's."""
    if recipe.randaugment_layers == 0:
        return 0.0
    if recipe.randaugment_magnitude is None and of_model == 0:
        raise UserError(
            f"the paper has no RandAugment for {recipe.model}; give its strength, such as "
            "--randaugment-magnitude 5"
        )
    return float(_first(recipe.randaugment_magnitude, of_model))


def _statistics(recipe: Recipe, train: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(train, ArraySource):
        own_mean, own_std = dataset_statistics(train)
    else:
        own_mean, own_std = IMAGENET_MEAN, IMAGENET_STD
    mean, std = _first(recipe.mean, own_mean), _first(recipe.std, own_std)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != train.channels:
            raise UserError(
                f"--{name} has {len(values)} values, but {recipe.data} has {train.channels} "
                f"channels; give one for each"
            )
    return tuple(map(float, mean)), tuple(map(float, std))


def _fingerprint(source: Source) -> str:
    """A short hash of names and labels; a directory may move, so what its files share is left out.

    Files are not opened: a image that is mended leaves a run its own.
    """
    names = [source.name(index) for index in range(len(source))]
    shared = len(os.path.commonpath(names))
    content = hashlib.blake2b(digest_size=8)
    content.update("\n".join(name[shared:] for name in names).encode("utf-8", "surrogateescape"))
    content.update(source.labels.astype("<i8").tobytes())
    return content.hexdigest()


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def to_dict(resolved: Resolved) -> dict[str, Any]:
    """Recipe and derived values in YAML's types: what ``config.yaml`` and checkpoints hold."""
    derived = {name: _plain(value) for name, value in vars(resolved).items() if name != "recipe"}
    return {"recipe": recipe_to_dict(resolved.recipe), "derived": derived}


def from_dict(saved: Mapping[str, Any]) -> Resolved:
    """The inverse of :func:`to_dict`."""
    recipe, derived = recipe_from_dict(saved["recipe"]), dict(saved["derived"])
    for name, before in (("clipping", recipe.clipping), ("epochs", recipe.epochs)):
        derived.setdefault(name, before)  # saved before it was derived
    derived.setdefault("randaugment_magnitude", 0.0)
    for name in ("classes", "mean", "std"):
        derived[name] = tuple(derived[name])
    return Resolved(recipe=recipe, **derived)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def differences(saved: Resolved, now: Resolved) -> list[str]:
    """Settings and derived values that would make a resumed run another run.

    Returns:
        Lines such as ``epochs: 60 there, 30 now``; empty if the run can go on.
    """
    before, after = to_dict(saved), to_dict(now)
    return [
        f"{name}: {before[part].get(name)} there, {value} now"
        for part in ("recipe", "derived")
        for name, value in after[part].items()
        if name not in FREE_ON_RESUME and before[part].get(name) != value
        if part == "recipe" or name not in after["recipe"]
    ]
