"""One step equals the paper's update, written out by hand in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normfree.data import MicroBatch, open_source, train_batches
from normfree.optim import warmup_cosine
from normfree.train.build import build_state, build_step
from normfree.train.build_reader import build_plan
from normfree.train.init import new_model
from normfree.train.resolve import Resolved, resolve
from normfree.train.state import TrainState
from normfree.train.step import TrainStep
from tests.unit.train.tiny import tiny_recipe


def setting(**changes: object) -> tuple[Resolved, TrainStep, list[MicroBatch]]:
    recipe = tiny_recipe(Path("x"), **{"augment": "none", "clipping": None, **changes})
    train = open_source(recipe.data.source, "train")
    resolved = resolve(recipe, train, train)
    batches = list(train_batches(train, None, build_plan(resolved), start=0, stop=1))
    model = new_model(resolved.model, resolved.classes, None, seed=0)[0]
    return resolved, build_step(resolved, build_state(resolved, model)), batches


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


def test_the_first_step_has_rate_zero_and_fills_the_momentum() -> None:
    _, step, batches = setting()
    state = step.state
    before = weights(state)
    step(batches)
    assert step.schedule(0) == 0.0
    for name, value in weights(state).items():
        assert torch.equal(value, before[name])
    buffers = [s["momentum_buffer"] for s in state.optimizer.state.values()]
    assert len(buffers) == len(before)
    assert sum(float(b.abs().sum()) for b in buffers) > 0


def test_a_step_is_nesterov_on_the_mean_loss() -> None:
    resolved, step, batches = setting(weight_decay=0.01)
    state, transform = step.state, step.transform
    twin = setting(weight_decay=0.01)[1].state
    state.step = 2
    before = weights(state)
    output = step(batches)

    images, _, keys, *_ = transform(batches[0])
    images, labels = transform.normalized(images), batches[0].labels
    loss = torch.nn.functional.cross_entropy(twin.model(images, keys), labels, label_smoothing=0.1)
    loss.backward()
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    rate = warmup_cosine(
        2, peak=resolved.peak_lr, warmup_steps=resolved.warmup_steps, total_steps=8
    )
    for name, p in twin.model.named_parameters():
        decay = 0.01 if p.ndim > 1 and "gain" not in name else 0.0
        g = p.grad + decay * before[name]
        expected = before[name] - rate * (g + 0.9 * g)
        torch.testing.assert_close(state.model.get_parameter(name).detach(), expected)


def test_the_average_follows_the_update() -> None:
    _, step, batches = setting()
    state = step.state
    state.step = 2
    before = weights(state)
    step(batches)
    decay = 3 / 12
    for name, now in weights(state).items():
        expected = decay * before[name] + (1 - decay) * now
        torch.testing.assert_close(state.ema.model.get_parameter(name), expected)
    assert state.step == 3


@pytest.mark.parametrize("micro_batches", [2, 5, 12])
def test_an_accumulated_batch_has_the_same_gradient_and_is_clipped_once(
    micro_batches: int,
) -> None:
    outputs, after = [], []
    for accumulate in (1, micro_batches):
        _, step, batches = setting(accumulate=accumulate, clipping=0.01)
        state = step.state
        state.step = 2
        outputs.append(step(batches))
        after.append(weights(state))
        assert 0 < int(state.optimizer.clipped_units) < state.optimizer.total_units
    torch.testing.assert_close(outputs[0].loss, outputs[1].loss)
    assert outputs[0].correct == outputs[1].correct
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=3e-6, atol=3e-6)


def test_correct_counts_what_the_network_said_before_the_update() -> None:
    _, step, batches = setting(drop_rate=0.0, stochastic_depth_rate=0.0)
    state, transform = step.state, step.transform
    logits = state.model(transform.normalized(transform(batches[0]).images))
    expected = int((logits.argmax(dim=1) == batches[0].labels).sum())
    assert int(step(batches).correct) == expected


#: Mixing, RandAugment, dropout, stochastic depth and SAM all at once.
EVERYTHING: dict[str, Any] = {
    **{"mixing": "mixup_cutmix", "randaugment_layers": 2, "sam_rho": 0.05, "sam_fraction": 0.5},
    **{"drop_rate": 0.3, "stochastic_depth_rate": 0.4, "augment": "shift_flip", "clipping": 0.01},
}


SHRUNK = {"widths": [16] * 4, "depths": [1] * 4, "group_widths": [8] * 4}


def trained(steps: int = 1, **changes: Any) -> tuple[TrainState, list[Tensor]]:
    """After some steps at full rate on one batch; and what the convolutions gave within them."""
    everything = EVERYTHING | {"warmup_steps": 0.0} | changes
    if not everything["sam_rho"]:
        del everything["sam_fraction"]
    resolved, step, batches = setting(**everything)
    state = step.state
    outputs: list[Tensor] = []
    for layer in state.model.modules():
        if isinstance(layer, nn.Conv2d) and not resolved.recipe.compute.compile:
            layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    for _ in range(steps):
        step(batches)
    return state, outputs


def moved(state: TrainState) -> Tensor:
    """All momentum, as one vector: the sum of the gradients that the steps had."""
    buffers = [state.optimizer.state[p]["momentum_buffer"] for p in state.model.parameters()]
    return torch.cat([b.flatten() for b in buffers]).double()


def distance(a: TrainState, b: TrainState) -> float:
    """‖a − b‖ / ‖b‖ of what the steps have moved."""
    return float((moved(a) - moved(b)).norm() / moved(b).norm())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_that_of_every_convolution(precision: str) -> None:
    state, outputs = trained(precision=precision)
    assert {x.dtype for x in outputs} == {getattr(torch, precision)}
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}
    if precision == "bfloat16":
        assert 1e-3 < distance(state, trained()[0]) < 2.5e-2


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_is_the_layout_of_every_kernel_and_then_of_every_activation(
    channels_last: bool,
) -> None:
    state, outputs = trained(channels_last=channels_last)
    kernels = [m.weight for m in state.model.modules() if isinstance(m, nn.Conv2d)]
    maps = outputs if channels_last else []  # kernels return channels last, whatever they take
    tensors = [x for x in [*maps, *kernels] if x.shape[1] > 1 and x.shape[2] > 1]
    assert len(tensors) > 10
    for tensor in tensors:
        assert tensor.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert distance(state, trained()[0]) < 1e-6


def test_accumulated_and_recomputed_steps_are_those_of_the_big_batch() -> None:
    big, _ = trained(sam_rho=0.0)
    state, _ = trained(sam_rho=0.0, accumulate=5, activation_checkpointing=True)
    assert distance(state, big) < 1e-6  # the update: accumulated, clipped, decayed


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_without_a_learning_rate_leaves_the_weights_to_the_last_bit(
    optimizer: str, precision: str
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "precision": precision, "accumulate": 2}
    _, step, batches = setting(**EVERYTHING, **settings, lr=1e-30)
    state = step.state
    before = weights(state)
    step(batches)
    assert all(torch.equal(p, before[name]) for name, p in state.model.named_parameters())


def test_the_scope_of_sam_is_the_recipes() -> None:
    scopes: tuple[Any, ...] = ("batch", "micro_batch", "other_batch")
    together, *others = (trained(accumulate=3, sam_fraction=1.0, sam_scope=x)[0] for x in scopes)
    assert all(distance(other, together) > 1e-3 for other in others)


def test_sam_moves_running_statistics_once_for_each_micro_batch() -> None:
    state, _ = trained(model="bn_nfnet_f0", model_options=SHRUNK, accumulate=2)
    tracked = [x for name, x in state.model.named_buffers() if name.endswith("tracked")]
    assert {int(x) for x in tracked} == {2}


def test_one_backward_pass_updates_as_it_runs_with_the_same_bits() -> None:
    """Clipped and averaged; two micro-batches are updated after their passes."""
    found = []
    for one_backward in (True, False):
        _, step, batches = setting(clipping=0.01)
        assert step.one_backward
        step = replace(step, one_backward=one_backward)
        step.state.step = 2
        output = step(batches)
        found.append((weights(step.state), step.state.ema.state_dict(), output))
        gradients = [p.grad for p in step.state.model.parameters()]
        assert all((g is None) == one_backward for g in gradients)
    (early, early_average, early_output), (late, late_average, late_output) = found
    for one, two in ((early, late), (early_average, late_average)):
        assert all(one[name].equal(two[name]) for name in one)
    assert early_output.loss.equal(late_output.loss)
    assert early_output.clipped.equal(late_output.clipped)
    assert early_output.units == late_output.units > 0
    assert not setting(accumulate=2)[1].one_backward
    assert not setting(sam_rho=0.05)[1].one_backward
