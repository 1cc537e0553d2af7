"""What follows from a recipe, its model and its data: derived once, last, from the final values."""

from __future__ import annotations

import hashlib
import os.path
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from normfree.data import ArraySource, Source, dataset_statistics
from normfree.data.augment import IMAGENET_MEAN, IMAGENET_STD
from normfree.errors import UserError
from normfree.models import model_config
from normfree.train.config import Recipe, recipe_from_dict, recipe_to_dict
from normfree.train.device import find_device

#: Settings that may differ when a run goes on: they change neither the weights nor their order
#: (``on_bad_image`` does only from where the run could not have gone on at all).
FREE_ON_RESUME = frozenset(
    {
        *("name", "out", "resume", "workers", "device", "compile", "on_bad_image"),
        *("eval_every", "checkpoint_every", "keep_checkpoints", "log_every"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A recipe and all that was derived from it.

    Attributes:
        recipe: the settings.
        model: the network's whole configuration; ``create_model(**model)`` builds it.
        classes: names of the classes, in the order of the labels.
        train_images: N.
        train_data: tells whether a resumed run finds the same training images: a hash of their
            names and labels. Empty in runs that were saved without it.
        test_images: images in the evaluation.
        steps_per_epoch: N / B, not rounded.
        total_steps: ⌊epochs · N / B⌋.
        warmup_steps: warmup_epochs · N / B, not rounded.
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
    train_images: int
    test_images: int
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
        """Steps done when ``epoch`` (from 1) is over: ⌊epoch · N / B⌋."""
        return epoch * self.train_images // self.recipe.batch_size

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that the step (from 0) belongs to."""
        return (step + 1) * self.recipe.batch_size // self.train_images + (
            (step + 1) * self.recipe.batch_size % self.train_images > 0
        )


def resolve(recipe: Recipe, train: Source, test: Source) -> Resolved:
    """Derive every value that depends on others.

    Args:
        recipe: final settings, all overrides made.
        train: the training images.
        test: the images for evaluation.

    Raises:
        UserError: settings, model and data that do not go together.
    """
    classes = tuple(train.classes)
    model = model_config(recipe.model, **_model_fields(recipe, len(classes), train.channels))
    if model.num_classes < len(classes):
        raise UserError(
            f"--num-classes {model.num_classes} is fewer than the {len(classes)} classes of "
            f"{recipe.data}; leave it out or raise it"
        )
    total_steps = recipe.epochs * len(train) // recipe.batch_size
    if total_steps == 0:
        raise UserError(
            f"{recipe.epochs} epochs of {len(train)} images are not one batch of "
            f"{recipe.batch_size}; lower --batch-size"
        )
    mean, std = _statistics(recipe, train)
    return Resolved(
        recipe=recipe,
        model=asdict(model),
        classes=classes,
        train_images=len(train),
        train_data=_fingerprint(train),
        test_images=len(test),
        steps_per_epoch=len(train) / recipe.batch_size,
        total_steps=total_steps,
        warmup_steps=recipe.warmup_epochs * len(train) / recipe.batch_size,
        peak_lr=recipe.base_lr * recipe.batch_size / 256 if recipe.lr is None else recipe.lr,
        train_size=model.train_size,
        test_size=model.test_size,
        test_margin=_first(recipe.test_margin, 32 if recipe.augment == "crop_flip" else 0),
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
    own = ("activation", "drop_rate", "stochastic_depth_rate", "num_classes")
    for field in (*own, "train_size", "test_size"):
        if getattr(recipe, field) is not None:
            values[field] = getattr(recipe, field)
    return values


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

    Files are not opened: a picture that is mended leaves a run its own.
    """
    names = [source.name(index) for index in range(len(source))]
    shared = len(os.path.commonpath(names))
    content = hashlib.blake2b(digest_size=8)
    content.update("\n".join(name[shared:] for name in names).encode("utf-8", "surrogateescape"))
    content.update(source.labels.astype("<i8").tobytes())
    return content.hexdigest()


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def derivation(resolved: Resolved) -> list[tuple[str, str, str]]:
    """What was derived, for a person to check: rows of (name, value, where it comes from)."""
    r, recipe = resolved, resolved.recipe
    n, b = r.train_images, recipe.batch_size
    rate = "given" if recipe.lr is not None else f"{recipe.base_lr:g} × {b} / 256"
    size = f"train {r.train_size}, test {r.test_size} + {r.test_margin}"
    channels = "colour" if len(r.mean) == 3 else "grey" if len(r.mean) == 1 else f"{len(r.mean)} ch"
    return [
        ("data", recipe.data, f"{n} training, {r.test_images} test images, {channels}"),
        ("model", recipe.model, f"{r.model['num_classes']} classes, {r.model['activation']}"),
        ("image size", f"{r.train_size} px", size),
        ("steps per epoch", f"{r.steps_per_epoch:.2f}", f"{n} / {b}"),
        ("total steps", str(r.total_steps), f"{recipe.epochs} epochs"),
        ("warm-up steps", f"{r.warmup_steps:.2f}", f"{recipe.warmup_epochs:g} epochs"),
        ("peak learning rate", f"{r.peak_lr:.4g}", rate),
        ("dropout", f"{r.model['drop_rate']:g}", _origin(recipe.drop_rate)),
        (
            "stochastic depth",
            f"{r.model['stochastic_depth_rate']:g}",
            _origin(recipe.stochastic_depth_rate),
        ),
        ("mean, std", f"{_numbers(r.mean)}, {_numbers(r.std)}", "of 0..255"),
        ("device", r.device, recipe.precision),
    ]


def _origin(setting: object) -> str:
    return "the model's" if setting is None else "given"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


def to_dict(resolved: Resolved) -> dict[str, Any]:
    """Recipe and derived values in YAML's types: what ``config.yaml`` and checkpoints hold."""
    derived = {name: _plain(value) for name, value in vars(resolved).items() if name != "recipe"}
    return {"recipe": recipe_to_dict(resolved.recipe), "derived": derived}


def from_dict(saved: Mapping[str, Any]) -> Resolved:
    """The inverse of :func:`to_dict`."""
    derived = dict(saved["derived"])
    for name in ("classes", "mean", "std"):
        derived[name] = tuple(derived[name])
    return Resolved(recipe=recipe_from_dict(saved["recipe"]), **derived)


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
    ]
