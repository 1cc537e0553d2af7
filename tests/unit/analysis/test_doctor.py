"""Each broken network is found out; every sound one is healthy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normfree
from normfree.analysis.doctor import CHECKS, examine
from normfree.analysis.reading import COLUMNS, Reading
from normfree.analysis.telemetry_file import TelemetryFile
from normfree.nn import ScaledActivation
from normfree.optim import param_groups
from normfree.report.checks import examine_run
from tests.unit.report.test_curves import written

QUICK = ("nfnet_pico", "nfnet_nano", "nfnet_micro")


def checked(model: Any, groups: Any = None, *, fresh: bool = True) -> list[str]:
    config = model.config
    side = min(64, config.train_size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, config.in_channels, side, side, generator=generator)
    return [finding.check for finding in examine(model, images, groups, fresh=fresh)]


def new(name: str = "nfnet_pico", **options: Any) -> Any:
    torch.manual_seed(0)
    return normfree.create_model(name, **options)


def first_block(model: Any) -> Any:
    return model.stages[1][0]


def weight_not_a_number(model: Any) -> None:
    first_block(model).conv0.weight.data[0] = float("nan")


def batch_norm_left_in(model: Any) -> None:
    block = first_block(model)
    block.conv1 = nn.Sequential(block.conv1, nn.BatchNorm2d(block.conv1.out_channels))


def layer_norm_left_in(model: Any) -> None:
    block = first_block(model)
    block.act1 = nn.Sequential(block.act1, nn.GroupNorm(1, block.conv0.out_channels))


def convolution_not_standardized(model: Any) -> None:
    conv = first_block(model).conv1
    settings = {"stride": conv.stride, "padding": 1, "groups": conv.groups}
    first_block(model).conv1 = nn.Conv2d(conv.in_channels, conv.out_channels, 3, **settings)


def gain_of_another_activation(model: Any) -> None:
    first_block(model).act1 = ScaledActivation("gelu", gain=1.0)


def activation_of_torch(model: Any) -> None:
    first_block(model).act1 = nn.ReLU()


def no_beta(model: Any) -> None:
    for stage in model.stages:
        for block in stage:
            block.beta = 1.0


def beta_that_grows(model: Any) -> None:
    first_block(model).beta = 50.0


def alpha_too_large(model: Any) -> None:
    first_block(model).alpha = 40.0


def alpha_zero(model: Any) -> None:
    first_block(model).alpha = 0.0


def dead_stem(model: Any) -> None:
    model.stem.register_forward_hook(lambda module, args, out: out * 1e-4)


def exploding_stem(model: Any) -> None:
    model.stem.register_forward_hook(lambda module, args, out: out * 1e3)


def classifier_of_zeros(model: Any) -> None:
    model.classifier.weight.data.zero_()


def classifier_too_sure(model: Any) -> None:
    model.classifier.weight.data.normal_(std=30.0)


def parameter_that_nothing_uses(model: Any) -> None:
    model.forgotten = nn.Parameter(torch.ones(3))


def detached_stage(model: Any) -> None:
    first_block(model).register_forward_hook(lambda module, args, out: out.detach())


BROKEN: list[tuple[Callable[[Any], None], str]] = [
    (weight_not_a_number, "not_finite"),
    (batch_norm_left_in, "normalization_left_in"),
    (layer_norm_left_in, "normalization_left_in"),
    (convolution_not_standardized, "plain_convolution"),
    (gain_of_another_activation, "wrong_gain"),
    (activation_of_torch, "activation_without_gain"),
    (no_beta, "wrong_beta"),
    (beta_that_grows, "wrong_beta"),
    (alpha_too_large, "wrong_alpha"),
    (alpha_zero, "wrong_alpha"),
    (dead_stem, "dead_stage"),
    (exploding_stem, "exploding_stage"),
    (classifier_of_zeros, "constant_answer"),
    (classifier_too_sure, "confident_at_first"),
    (parameter_that_nothing_uses, "unused_parameter"),
    (detached_stage, "unused_parameter"),
]


@pytest.mark.parametrize(("plant", "check"), BROKEN)
def test_a_planted_defect_is_named(plant: Callable[[Any], None], check: str) -> None:
    model = new()
    plant(model)
    assert check in checked(model)


def groups_of(model: Any, **settings: Any) -> list[dict[str, Any]]:
    return param_groups(model, weight_decay=2e-5, **{"clipping": 0.01, **settings})


def test_a_parameter_in_no_group() -> None:
    model = new()
    groups = groups_of(model)
    model.stages[0][0].conv0.weight = nn.Parameter(model.stages[0][0].conv0.weight.clone())
    assert checked(model, groups) == ["in_no_group"]


def test_a_parameter_in_two_groups() -> None:
    model = new()
    groups = groups_of(model)
    twice = {**groups[0], "params": groups[0]["params"][:1]}
    assert checked(model, [*groups, twice]) == ["in_two_groups"]


def test_a_classifier_that_is_clipped() -> None:
    model = new()
    assert checked(model, groups_of(model, classifier=None)) == ["clipped_classifier"]


@pytest.mark.parametrize("value", [1e-5, 20.0])
def test_a_threshold_without_use(value: float) -> None:
    model = new()
    assert checked(model, groups_of(model, clipping=value)) == ["clipping_threshold"]


def test_gains_that_decay() -> None:
    model = new()
    groups = [{"params": list(model.parameters()), "weight_decay": 1e-4}]
    assert checked(model, groups) == ["decayed_gain"]


@pytest.mark.parametrize("normalization", ["none", "batch"])
@pytest.mark.parametrize("name", QUICK)
def test_a_small_network_and_its_twin_are_healthy(name: str, normalization: str) -> None:
    model = new(name, normalization=normalization)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert checked(model, groups_of(model)) == []
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training


def test_a_classifier_may_begin_at_zero_by_design() -> None:
    model = new("nf_regnet_b0")
    assert not model.classifier.weight.any()
    assert checked(model, groups_of(model)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", normfree.list_models())
def test_every_network_is_healthy(name: str) -> None:
    model = new(name)
    assert checked(model, groups_of(model)) == []


def test_checks_have_different_names_and_say_what_they_look_for() -> None:
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS) >= 12
    assert all(check.__doc__ for check in CHECKS)


def line(step: int, **fields: Any) -> dict[str, Any]:
    usual = {"loss": 1.0, "clipped": 0.1, "data_wait": 0.0, "lr": 0.1}
    return {"kind": "train", "step": step, "epoch": step / 2, **usual, **fields}


def a_run(path: Path, lines: list[dict[str, Any]], gradient: float = 1.0) -> list[str]:
    written(path, lines)
    file = TelemetryFile(path / "telemetry.bin", ["a.weight", "b.weight"], [0.01, 0.01])
    for step in range(4):
        values = np.ones((2, len(COLUMNS)), np.float32)
        values[1, COLUMNS.index("gradient")] = gradient
        file.write(step, Reading(("a.weight", "b.weight"), values, 1))
    file.close()
    return [finding.check for finding in examine_run(path)]


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"loss": None}, "diverged"),
        ({"clipped": 0.99}, "clipping_threshold"),
        ({"clipped": 0.0}, "clipping_threshold"),
        ({"data_wait": 0.6}, "starved"),
    ],
)
def test_what_is_wrong_with_a_run(tmp_path: Path, fields: dict[str, Any], check: str) -> None:
    assert a_run(tmp_path, [line(step, **fields) for step in range(1, 8)]) == [check]


def test_a_run_whose_loss_rises(tmp_path: Path) -> None:
    assert a_run(tmp_path, [line(n, loss=float(n)) for n in range(1, 8)]) == ["diverged"]


def test_a_layer_without_a_gradient(tmp_path: Path) -> None:
    lines = [line(step) for step in range(1, 8)]
    assert a_run(tmp_path, lines, gradient=0.0) == ["dead_layer"]


def test_an_average_that_lags(tmp_path: Path) -> None:
    end = {"kind": "epoch", "step": 8, "epoch": 4, "val_top1": 0.9, "val_top1_ema": 0.2}
    assert a_run(tmp_path, [*(line(step) for step in range(1, 8)), end]) == ["late_average"]


def test_a_sound_run(tmp_path: Path) -> None:
    assert a_run(tmp_path, [line(step) for step in range(1, 8)]) == []
