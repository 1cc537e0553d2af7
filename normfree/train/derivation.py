"""What was derived from a recipe, as a table for a person to check."""

from __future__ import annotations

from collections.abc import Iterator

from normfree.train.components import AGC, Epochs, ScaledRate, WarmupEpochs
from normfree.train.resolve import Resolved

Row = tuple[str, str, str]

GIVEN = "the recipe's"


def derivation(resolved: Resolved) -> list[Row]:
    """Rows of (name, value, where it comes from)."""
    return [*_data(resolved), *_steps(resolved), *_optimizer(resolved), *_augmentation(resolved)]


def _data(r: Resolved) -> Iterator[Row]:
    recipe, model = r.recipe, r.model
    channels = "color" if len(r.mean) == 3 else "gray" if len(r.mean) == 1 else f"{len(r.mean)} ch"
    images = f"{r.train_images} training, {r.val_images} validation images"
    images += f", {r.test_images} test images" if r.test_images else ""
    yield "data", recipe.data.source, f"{images}, {channels}"
    yield "model", recipe.model.name, f"{model['num_classes']} classes, {model['activation']}"
    yield from _order(r)
    if recipe.model.init is not None:
        freeze = recipe.model.freeze
        frozen = f"stem and {freeze} stages frozen" if freeze else "all layers train"
        yield "weights", recipe.model.init, frozen
    size = f"train {r.train_size}, test {r.test_size} + {r.test_margin}"
    yield "image size", f"{r.train_size} px", size
    yield "mean, std", f"{_numbers(r.mean)}, {_numbers(r.std)}", "of 0..255"
    yield "device", r.device, _arithmetic(r)


def _order(r: Resolved) -> Iterator[Row]:
    """Where images do not simply come in random order, or do not count the same."""
    data = r.recipe.data
    if data.order == "shards":
        spread = f"{data.shard_lanes} lanes, shuffled in windows of {data.shard_window}"
        yield "order", "by shard", spread
    if data.balance == "sampler":
        yield "balance", "sampler", "each class equally often in an epoch"
    if r.class_weights is not None:
        weights = [weight for weight in r.class_weights if weight > 0]
        spread = f"{min(weights):.3g} to {max(weights):.3g} in the loss, by class"
        yield "balance", "weights", spread


def _arithmetic(r: Resolved) -> str:
    compute = r.recipe.compute
    rounded = compute.tf32 and r.device.startswith("cuda")
    return f"{compute.precision}, TF32 allowed" if rounded else compute.precision


def _steps(r: Resolved) -> Iterator[Row]:
    recipe = r.recipe
    n, b = r.train_images, recipe.batch.size
    split = f"in {recipe.batch.accumulate} micro-batches" if recipe.batch.accumulate > 1 else ""
    yield "batch", str(b), split
    yield "steps per epoch", f"{r.steps_per_epoch:.2f}", f"{n} / {b}"
    in_epochs = isinstance(recipe.length, Epochs)
    yield "total steps", str(r.total_steps), f"{r.epochs} epochs" if in_epochs else GIVEN
    warmup = recipe.schedule.warmup
    given = f"{warmup.warmup_epochs:g} epochs" if isinstance(warmup, WarmupEpochs) else GIVEN
    if r.warmup_steps > r.total_steps:
        given += ": longer than the run, the peak is not reached; lower --warmup-epochs"
    yield "warm-up steps", f"{r.warmup_steps:.2f}", given


def _optimizer(r: Resolved) -> Iterator[Row]:
    recipe, rate = r.recipe, r.recipe.optimizer.rate
    origin = GIVEN
    if isinstance(rate, ScaledRate):
        origin = f"{rate.base_lr:g} × {recipe.batch.size} / 256"
    yield "peak learning rate", f"{r.peak_lr:.4g}", f"{origin}, {recipe.optimizer.kind}"
    if recipe.clipping is not None:
        name = {"unit": "AGC", "layer": "AGC by layer", "global": "largest norm"}
        automatic = isinstance(recipe.clipping, AGC) and recipe.clipping.clipping == "auto"
        origin = f"for batches of {recipe.batch.size}" if automatic else GIVEN
        yield "clipping", f"{r.clipping:g}", f"{name[recipe.clipping.kind]}, {origin}"
    if recipe.sam is not None:
        scopes = {"other_batch": "another batch"}
        scope = scopes.get(recipe.sam.scope, "each " + recipe.sam.scope.replace("_", "-"))
        share = f"{recipe.sam.fraction:.0%} of {scope} ascends"
        yield "SAM", f"{recipe.sam.rho:g}", share
    yield "dropout", f"{r.model['drop_rate']:g}", _origin(recipe.model.drop_rate)
    depth = r.model["stochastic_depth_rate"]
    yield "stochastic depth", f"{depth:g}", _origin(recipe.model.stochastic_depth_rate)


def _augmentation(r: Resolved) -> Iterator[Row]:
    geometry, mixing = r.recipe.augment.geometry, r.recipe.augment.mixing
    yield "augmentation", "none" if geometry is None else geometry.kind, ""
    if mixing is not None:
        partner = {"two_batches": "of a second batch", "in_batch": "next in the batch"}
        yield "mixing", mixing.kind, f"with the image {partner[mixing.pairing]}"
    operations = r.recipe.augment.randaugment
    if operations is not None:
        strength = f"{operations.layers} layers × {r.randaugment_magnitude:g}"
        kind = "as the authors' code" if operations.quirks else "without the authors' quirks"
        if operations.quirks and r.randaugment_magnitude < 5:
            kind += ", which is harsher below 5: --no-quirks"
        yield "RandAugment", strength, f"{_origin(operations.magnitude)}, {kind}"


def _origin(setting: object) -> str:
    return "the model's" if setting is None else GIVEN


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.1f}" for value in values)
