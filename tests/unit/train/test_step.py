"""One step equals the paper's update, written out by hand in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from normfree.data import Batch, open_source
from normfree.optim import warmup_cosine
from normfree.train.init import new_model
from normfree.train.inputs import Inputs, make_inputs
from normfree.train.parts import split
from normfree.train.resolve import Resolved, resolve
from normfree.train.state import TrainState, build_state
from normfree.train.step import learning_rate, train_step
from tests.unit.train.tiny import tiny_recipe


def setting(**changes: object) -> tuple[Resolved, TrainState, Inputs, Batch]:
    recipe = tiny_recipe(Path("x"), **{"augment": "none", "clipping": None, **changes})
    train = open_source(recipe.data, "train")
    resolved = resolve(recipe, train, train)
    images = torch.from_numpy(train.images(torch.arange(12).numpy())).permute(0, 3, 1, 2)
    batch = Batch(images, torch.from_numpy(train.labels[:12]), torch.arange(12))
    return (
        resolved,
        build_state(resolved, new_model(resolved, None)[0]),
        make_inputs(resolved),
        batch,
    )


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


def test_the_first_step_has_rate_zero_and_fills_the_momentum() -> None:
    resolved, state, inputs, batch = setting()
    before = weights(state)
    train_step(state, batch, resolved, inputs)
    assert learning_rate(resolved, 0) == 0.0
    for name, value in weights(state).items():
        assert torch.equal(value, before[name])
    buffers = [s["momentum_buffer"] for s in state.optimizer.state.values()]
    assert len(buffers) == len(before)
    assert sum(float(b.abs().sum()) for b in buffers) > 0


def test_a_step_is_nesterov_on_the_mean_loss() -> None:
    resolved, state, inputs, batch = setting(weight_decay=0.01)
    _, twin, *_ = setting(weight_decay=0.01)
    state.step = 2
    before = weights(state)
    output = train_step(state, batch, resolved, inputs)

    (part,) = split(batch, resolved.recipe)
    images, _, keys = inputs.train(part)
    labels = batch.labels
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
    resolved, state, inputs, batch = setting()
    state.step = 2
    before = weights(state)
    train_step(state, batch, resolved, inputs)
    decay = 3 / 12
    for name, now in weights(state).items():
        expected = decay * before[name] + (1 - decay) * now
        torch.testing.assert_close(state.ema.model.get_parameter(name), expected)
    assert state.step == 3


@pytest.mark.parametrize("parts", [2, 5, 12])
def test_a_batch_in_parts_has_the_same_gradient_and_is_clipped_once(parts: int) -> None:
    outputs, after = [], []
    for accumulate in (1, parts):
        resolved, state, inputs, batch = setting(accumulate=accumulate, clipping=0.01)
        state.step = 2
        outputs.append(train_step(state, batch, resolved, inputs))
        after.append(weights(state))
        assert 0 < int(state.optimizer.clipped_units) < state.optimizer.total_units
    torch.testing.assert_close(outputs[0].loss, outputs[1].loss)
    assert outputs[0].correct == outputs[1].correct
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=1e-4, atol=1e-6)


def test_correct_counts_what_the_network_said_before_the_update() -> None:
    resolved, state, inputs, batch = setting(drop_rate=0.0, stochastic_depth_rate=0.0)
    logits = state.model(inputs.train(next(split(batch, resolved.recipe))).images)
    expected = int((logits.argmax(dim=1) == batch.labels).sum())
    assert int(train_step(state, batch, resolved, inputs).correct) == expected
