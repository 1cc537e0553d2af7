"""What was derived from a recipe, as a table for a person to check."""

from __future__ import annotations

from collections.abc import Iterator

from normfree.train.resolve import Resolved

Row = tuple[str, str, str]

GIVEN = "the recipe's"


def derivation(resolved: Resolved) -> list[Row]:
    """Rows of (name, value, where it comes from)."""
    return [*_data(resolved), *_steps(resolved), *_optimizer(resolved), *_augmentation(resolved)]


def _data(r: Resolved) -> Iterator[Row]:
    recipe, model = r.recipe, r.model
    channels = "colour" if len(r.mean) == 3 else "grey" if len(r.mean) == 1 else f"{len(r.mean)} ch"
    images = f"{r.train_images} training, {r.test_images} test images, {channels}"
    yield "data", recipe.data, images
    yield "model", recipe.model, f"{model['num_classes']} classes, {model['activation']}"
    if recipe.init is not None:
        frozen = f"stem and {recipe.freeze} stages frozen" if recipe.freeze else "all layers train"
        yield "weights", recipe.init, frozen
    size = f"train {r.train_size}, test {r.test_size} + {r.test_margin}"
    yield "image size", f"{r.train_size} px", size
    yield "mean, std", f"{_numbers(r.mean)}, {_numbers(r.std)}", "of 0..255"
    yield "device", r.device, recipe.precision


def _steps(r: Resolved) -> Iterator[Row]:
    recipe = r.recipe
    n, b = r.train_images, recipe.batch_size
    parts = f"in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
    yield "batch", str(b), parts
    yield "steps per epoch", f"{r.steps_per_epoch:.2f}", f"{n} / {b}"
    given = f"{recipe.epochs} epochs" if recipe.steps is None else GIVEN
    yield "total steps", str(r.total_steps), given
    given = f"{recipe.warmup_epochs:g} epochs" if recipe.warmup_steps is None else GIVEN
    if r.warmup_steps > r.total_steps:
        given += ": longer than the run, the peak is not reached; lower --warmup-epochs"
    yield "warm-up steps", f"{r.warmup_steps:.2f}", given


def _optimizer(r: Resolved) -> Iterator[Row]:
    recipe = r.recipe
    rate = GIVEN if recipe.lr is not None else f"{recipe.base_lr:g} × {recipe.batch_size} / 256"
    yield "peak learning rate", f"{r.peak_lr:.4g}", f"{rate}, {recipe.optimizer}"
    if r.clipping is not None:
        name = {"unit": "AGC", "layer": "AGC by layer", "global": "largest norm"}[recipe.clip]
        origin = f"for batches of {recipe.batch_size}" if recipe.clipping == "auto" else GIVEN
        yield "clipping", f"{r.clipping:g}", f"{name}, {origin}"
    if recipe.sam_rho:
        share = f"{recipe.sam_fraction:.0%} of each {recipe.sam_scope} ascends"
        yield "SAM", f"{recipe.sam_rho:g}", share
    yield "dropout", f"{r.model['drop_rate']:g}", _origin(recipe.drop_rate)
    depth = r.model["stochastic_depth_rate"]
    yield "stochastic depth", f"{depth:g}", _origin(recipe.stochastic_depth_rate)


def _augmentation(r: Resolved) -> Iterator[Row]:
    recipe = r.recipe
    yield "augmentation", recipe.augment, ""
    if recipe.mixing != "none":
        partner = {"two_batches": "of a second batch", "in_batch": "next in the batch"}
        yield "mixing", recipe.mixing, f"with the image {partner[recipe.pairing]}"
    if recipe.randaugment_layers:
        strength = f"{recipe.randaugment_layers} layers × {r.randaugment_magnitude:g}"
        kind = "as the authors' code" if recipe.quirks else "without the authors' quirks"
        if recipe.quirks and r.randaugment_magnitude < 5:
            kind += ", which is harsher below 5: --no-quirks"
        yield "RandAugment", strength, f"{_origin(recipe.randaugment_magnitude)}, {kind}"


def _origin(setting: object) -> str:
    return "the model's" if setting is None else GIVEN


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.1f}" for value in values)
