"""The gradient of a batch, against the definition written out, with every random part at work."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from normfree.data import Batch, Order, open_source, train_batches
from normfree.nn.loss import softmax_cross_entropy
from normfree.train.gradient import batch_gradient
from normfree.train.init import new_model
from normfree.train.inputs import Inputs, make_inputs, train_transform
from normfree.train.parts import split
from normfree.train.resolve import Resolved, resolve
from normfree.train.state import TrainState, build_state
from normfree.train.step import train_step
from tests.unit.train.tiny import tiny_recipe

#: Mixing, RandAugment, dropout and stochastic depth all at once.
EVERYTHING: dict[str, Any] = {
    "mixing": "mixup_cutmix",
    "randaugment_layers": 2,
    "drop_rate": 0.3,
    "stochastic_depth_rate": 0.4,
    "sam_rho": 0.05,
}


def prepared(**changes: Any) -> tuple[TrainState, Batch, Resolved, Inputs]:
    """A run before its first step, skip gains moved off zero, and its first batch."""
    recipe = tiny_recipe(Path("unused"), **changes)
    source = open_source(recipe.data, "train")
    resolved = resolve(recipe, source, open_source(recipe.data, "val"))
    state = build_state(resolved, new_model(resolved, None)[0])
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            if name.endswith("skip_gain"):
                parameter.fill_(0.5)
        state.model.classifier.weight.mul_(20)
    order = Order(seed=recipe.seed, examples=len(source), batch_size=recipe.reads)
    batches = train_batches(source, train_transform(resolved, source), order, start=0, stop=1)
    return state, next(batches), resolved, make_inputs(resolved)


def gradients(state: TrainState) -> list[Tensor]:
    return [p.grad.clone() for p in state.model.parameters() if p.grad is not None]


def computed(**changes: Any) -> list[Tensor]:
    state, batch, resolved, inputs = prepared(**changes)
    batch_gradient(state, batch, resolved, inputs)
    return gradients(state)


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """‖a − b‖ / ‖b‖ over all parameters."""
    pairs = zip(a, b, strict=True)
    gap = torch.stack([(x.double() - y.double()).norm() for x, y in pairs]).norm()
    return float(gap / torch.stack([y.double().norm() for y in b]).norm())


@pytest.mark.parametrize("pairing", ["two_batches", "in_batch"])
@pytest.mark.parametrize("sam", [{"sam_rho": 0.0}, {}, {"sam_fraction": 0.3}])
def test_parts_add_up_to_the_gradient_of_the_whole(pairing: str, sam: dict[str, Any]) -> None:
    settings = EVERYTHING | {"pairing": pairing} | sam
    whole = computed(**settings)
    for parts in (4, 5, 12):
        assert distance(computed(**settings, accumulate=parts), whole) < 2e-6


def test_recomputed_activations_give_the_same_gradient() -> None:
    assert (
        distance(computed(**EVERYTHING, activation_checkpointing=True), computed(**EVERYTHING)) == 0
    )


def test_accumulated_and_recomputed_steps_are_those_of_the_big_batch() -> None:
    moved = []
    for changes in ({}, {"accumulate": 5, "activation_checkpointing": True}):
        settings = EVERYTHING | {"sam_rho": 0.0, "warmup_steps": 0.0} | changes
        state, batch, resolved, inputs = prepared(**settings)
        train_step(state, batch, resolved, inputs)
        buffers = [state.optimizer.state[p]["momentum_buffer"] for p in state.model.parameters()]
        moved.append(buffers)
    assert distance(moved[1], moved[0]) < 1e-6  # the update: clipped, decayed, gathered


def by_definition(
    state: TrainState, parts: list[Any], inputs: Inputs, share: float
) -> list[Tensor]:
    """∇L(w + ρ·g/‖g‖), g = ∇L of a share of the examples, written out on a float64 copy."""
    model = copy.deepcopy(state.model).double()
    params = list(model.parameters())

    def loss(some: list[Any], model: torch.nn.Module) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for part in some:
            images, targets, keys = inputs.train(part)
            total = total + softmax_cross_entropy(model(images.double(), keys), targets).sum()
        return total

    ascent = torch.autograd.grad(loss([part.thinned(share) for part in parts], model), params)
    norm = torch.stack([(g**2).sum() for g in ascent]).sum().sqrt()
    with torch.no_grad():
        for p, g in zip(params, ascent, strict=True):
            p.add_(0.05 * g / norm)
    return list(torch.autograd.grad(loss(parts, model), params))


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_sam_is_its_definition(share: float) -> None:
    state, batch, resolved, inputs = prepared(**EVERYTHING, sam_fraction=share)
    parts = list(split(batch, resolved.recipe))
    wanted = [g / 24 for g in by_definition(state, parts, inputs, share)]
    batch_gradient(state, batch, resolved, inputs)
    assert distance(gradients(state), wanted) < 1e-5
    assert distance(computed(**EVERYTHING | {"sam_rho": 0.0}), wanted) > 1e-2  # and not without


def test_parts_that_ascend_alone_are_replicas_that_do_not_synchronize() -> None:
    state, batch, resolved, inputs = prepared(**EVERYTHING, accumulate=3, sam_scope="part")
    parts = list(split(batch, resolved.recipe))
    replicas = [by_definition(state, [part], inputs, 1.0) for part in parts]
    wanted = [
        torch.stack(per_replica).sum(dim=0) / 24 for per_replica in zip(*replicas, strict=True)
    ]
    batch_gradient(state, batch, resolved, inputs)
    assert distance(gradients(state), wanted) < 1e-5
    together = computed(**EVERYTHING, accumulate=3)
    assert distance(together, wanted) > 1e-3  # one ascent for all is another gradient


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_without_a_learning_rate_leaves_the_weights_to_the_last_bit(
    optimizer: str, precision: str
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "precision": precision, "accumulate": 2}
    state, batch, resolved, inputs = prepared(**EVERYTHING, **settings, lr=0.0)
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    train_step(state, batch, resolved, inputs)
    assert all(torch.equal(p, before[name]) for name, p in state.model.named_parameters())


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_loss_is_the_mean_over_the_mixed_examples(loss: str) -> None:
    state, batch, resolved, inputs = prepared(**EVERYTHING | {"sam_rho": 0.0}, loss=loss)
    (part,) = split(batch, resolved.recipe)
    images, targets, keys = inputs.train(part)
    logits = state.model(images, keys)
    measured = batch_gradient(state, batch, resolved, inputs)
    if loss == "softmax":
        wanted = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
    else:
        right, wrong = targets * logits.sigmoid().log(), (1 - targets) * (-logits).sigmoid().log()
        wanted = -(right + wrong).sum(dim=1).mean()
    torch.testing.assert_close(measured.loss, wanted.detach())
    assert int(measured.correct) == int((logits.argmax(1) == targets.argmax(1)).sum())
