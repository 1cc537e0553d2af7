"""From a resolved recipe to what the training loop works with: the last place that reads one."""

from __future__ import annotations

from importlib.metadata import version

import torch

from normfree.models import ImageClassifier
from normfree.nn.loss import LOSSES, class_weighted
from normfree.optim import AGCSGD, EMA, SAM, param_groups
from normfree.train.accumulator import MetricAccumulator
from normfree.train.build_reader import build_plan
from normfree.train.compilation import compiled
from normfree.train.components import AGC, Shift
from normfree.train.components.clipping import LAYERS
from normfree.train.device_transform import DeviceTransform
from normfree.train.engine import Engine
from normfree.train.gradient import ALONE, SummedLoss, summed_loss
from normfree.train.recipe import Recipe
from normfree.train.replicated import Replicated
from normfree.train.resolve import Resolved
from normfree.train.runtime import Runtime
from normfree.train.sharded import Sharded
from normfree.train.state import TrainState
from normfree.train.statistics import synchronize
from normfree.train.step import TrainStep
from normfree.train.telemetry import build_telemetry
from normfree.train.updater import Updater
from normfree.weights.card import ModelCard, read_card


def build_device_transform(resolved: Resolved, device: str | None = None) -> DeviceTransform:
    """The device stage, on the device of the run or another one."""
    augment, geometry = resolved.recipe.augment, resolved.recipe.augment.geometry
    shifts = isinstance(geometry, Shift) and geometry.applies(resolved.epochs)
    shift = geometry if shifts else None
    alphas = (
        {}
        if augment.mixing is None
        else {
            "mixup_alpha": augment.mixing.mixup_alpha,
            "cutmix_alpha": augment.mixing.cutmix_alpha,
        }
    )
    return DeviceTransform(
        mean=resolved.mean,
        std=resolved.std,
        device=device or resolved.device,
        num_classes=resolved.outputs,
        label_smoothing=resolved.recipe.loss.label_smoothing,
        channels_last=resolved.recipe.compute.channels_last,
        shift=shift.padding if isinstance(shift, Shift) else 0,
        flip=isinstance(shift, Shift) and shift.kind == "shift_flip",
        randaugment=None
        if augment.randaugment is None
        else augment.randaugment.build(resolved.randaugment_magnitude),
        **alphas,
    )


def build_engine(recipe: Recipe, runtime: Runtime) -> Engine:
    """What ranks do to make one step together."""
    if runtime.world == 1:
        return Engine(runtime)
    average = recipe.ranks.statistics == "replica"
    kind = Replicated if recipe.ranks.kind == "ddp" else Sharded
    return kind(runtime, average_statistics=average)


def build_state(resolved: Resolved, model: ImageClassifier, engine: Engine = ALONE) -> TrainState:
    """The state before the first step.

    Args:
        resolved: the configuration.
        model: with its initial weights, see :func:`normfree.train.init.new_model`.
        engine: leaves to each rank what it holds of the state.
    """
    recipe = resolved.recipe
    model = model.to(resolved.device)
    if recipe.compute.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.freeze(recipe.model.freeze)
    if engine.runtime.world > 1 and recipe.ranks.statistics == "synchronized":
        synchronize(model)
    ema = None if recipe.ema is None else EMA(model, decay=recipe.ema.decay)
    for held in [model] if ema is None else [model, ema.model]:
        engine.prepare(held)  # type: ignore[arg-type]
    return TrainState(
        model=model,
        update=build_updater(model, resolved),
        ema=ema,
        sam=None if recipe.sam is None else SAM(model.parameters(), rho=recipe.sam.rho),
        epoch=MetricAccumulator(resolved.device),
        window=MetricAccumulator(resolved.device),
    )


def build_updater(model: ImageClassifier, resolved: Resolved) -> Updater:
    """The optimizer of a recipe, over the groups of :func:`normfree.optim.param_groups`.

    Raises:
        UserError: the model has no such layer to leave unclipped, or nothing is left to train.
    """
    recipe = resolved.recipe
    agc = recipe.clipping if isinstance(recipe.clipping, AGC) else None
    unclipped = ("classifier",) if agc is None else agc.unclipped
    groups = param_groups(
        model,
        weight_decay=recipe.optimizer.weight_decay,
        clipping=None if agc is None else resolved.clipping,
        classifier="auto" if "classifier" in unclipped else None,
        unclipped=() if agc is None else _places(model, unclipped),
    )
    optimizer = recipe.optimizer.build(groups, resolved.peak_lr, recipe.clipping)
    clips_itself = isinstance(optimizer, AGCSGD) and agc is not None
    if recipe.clipping is None or resolved.clipping is None or clips_itself:
        return Updater(optimizer, None)
    return Updater(optimizer, recipe.clipping.build(resolved.clipping))


def _places(model: ImageClassifier, names: tuple[str, ...]) -> list[str]:
    """The modules that a recipe's names stand for; the classifier's weight is a group anyway."""
    named = {"first_conv": model.first_conv, **LAYERS}
    return [named.get(name, name) for name in names if name != "classifier"]


def build_step(resolved: Resolved, state: TrainState, engine: Engine = ALONE) -> TrainStep:
    """What updates the state by one batch.

    Args:
        resolved: the configuration.
        state: built with the same engine.
        engine: how ranks make one step.

    Raises:
        UserError: the step should be compiled, and there is no compiler.
    """
    recipe, world = resolved.recipe, engine.runtime.world
    transform = build_device_transform(resolved)
    return TrainStep(
        state=state,
        transform=transform,
        schedule=recipe.schedule.build(
            peak=resolved.peak_lr,
            warmup_steps=resolved.warmup_steps,
            total_steps=resolved.total_steps,
            steps_per_epoch=resolved.span.steps_per_epoch,
        ),
        loss_of=engine.parallel(_loss_of(resolved, state.model, transform, engine), state.model),
        batch_size=recipe.batch.size,
        scope="batch" if recipe.sam is None else recipe.sam.scope,
        one_backward=recipe.batch.accumulate == world == 1
        and recipe.sam is None
        and recipe.health.on_nonfinite == "stop",  # the others have to see the whole gradient
        engine=engine,
        count=recipe.batch.accumulate,
        passes=build_plan(resolved, world).ascent_passes if world > 1 else None,
        telemetry=build_telemetry(resolved, state, engine),
    )


def _loss_of(
    resolved: Resolved, model: ImageClassifier, transform: DeviceTransform, engine: Engine
) -> SummedLoss:
    """Normalization, network and loss, compiled as one if the recipe says so.

    CUDA graphs overwrite the gradients of the call before, so that they are for steps of one call.
    """
    recipe, loss = resolved.recipe, LOSSES[resolved.recipe.loss.kind]
    if resolved.class_weights is not None:
        loss = class_weighted(
            loss,
            torch.tensor(resolved.class_weights, device=resolved.device),
            resolved.recipe.loss.label_smoothing,
        )
    loss_of = summed_loss(
        lambda images, keys: model(transform.normalized(images), keys),
        loss,
        recipe.compute.autocast,
    )
    if not recipe.compute.compile:
        return loss_of
    alone = recipe.batch.accumulate == engine.runtime.world == 1 and recipe.sam is None
    return compiled(loss_of, resolved.device, graphs=alone)


def build_card(resolved: Resolved) -> ModelCard:
    """What a reader of the weights has to know; the same for equal runs, wherever they lie."""
    return read_card(
        {
            "normfree": version("normfree"),
            "recipe": resolved.recipe.name,
            "data": resolved.recipe.data.source,
            "model": resolved.model,
            "classes": list(resolved.classes),
            "mean": list(resolved.mean),
            "std": list(resolved.std),
            "test_size": resolved.test_size,
            "test_margin": resolved.test_margin,
            "test_crop": resolved.recipe.data.test_crop,
            "filter": resolved.recipe.data.resize,
            "image_dtype": resolved.recipe.data.image_dtype,
            "val_fraction": resolved.recipe.data.val_fraction,
            "loss": resolved.recipe.loss.kind,
        }
    )
