"""The optimizer matches the authors' optimizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.nn.loss import soft_labels, softmax_cross_entropy
from normfree.optim import AGCSGD, EMA, clip_grad_agc_, param_groups, warmup_cosine
from normfree.optim.functional import adaptive_clip, ema_decay, unitwise_norm
from normfree.weights import deepmind
from tests.parity import reference

AGC = reference.arrays("agc_unit")
AGC_CASES = sorted({key.split("/")[0] for key in AGC})


def torch_layout(value: np.ndarray) -> torch.Tensor:
    """In the reference, a rank-3 tensor has one unit per position in its last two axes."""
    if value.ndim == 3:
        value = value.reshape(value.shape[0], -1)
    return deepmind.parameter_layout(value)


@pytest.mark.parametrize("case", AGC_CASES)
def test_agc_cases(case):
    param, grad, want = (torch_layout(AGC[f"{case}/{k}"]) for k in ("param", "grad", "clipped"))
    ours = adaptive_clip(grad, param, clipping=0.01, eps=1e-3)
    assert reference.relative_error(ours, want.numpy()) <= 1e-6
    one_norm = AGC[f"{case}/norm_shape"].size == 0 or AGC[f"{case}/norm_shape"].prod() == 1
    assert (unitwise_norm(param).numel() == 1) == one_norm

    parameter = torch.nn.Parameter(param)
    parameter.grad = grad.clone()
    clip_grad_agc_(parameter, clipping=0.01, eps=1e-3)
    assert reference.relative_error(parameter.grad, want.numpy()) <= 1e-6


SCHEDULES = reference.arrays("schedule")


@pytest.mark.parametrize("name", ["nfnet", "nf_regnet", "small", "small_fracwarm", "cosine"])
def test_schedule(name):
    case = reference.below(name, SCHEDULES)
    arg = {k: v.item() for k, v in reference.below("arg", case).items()}
    rule = {
        "peak": arg["max_val"],
        "warmup_steps": arg.get("warmup_steps", 0.0),
        "total_steps": arg["num_steps"],
        "start": arg.get("start_val", 0.0),
        "floor": arg["min_val"],
    }
    ours = np.array([warmup_cosine(int(step), **rule) for step in case["steps"]])
    run = case["steps"] <= arg["num_steps"]
    assert (ours[~run] == arg["min_val"]).all()  # the cosine of the reference rises again
    ours, case = ours[run], {key: case[key][run] for key in ("values", "values_f64")}
    assert reference.relative_error(ours, case["values_f64"]) <= 1e-12
    assert reference.relative_error(ours, case["values"]) <= 1e-6


def test_ema_decay():
    stored = reference.arrays("ema")
    for cap in (0.99999, 0.9999):
        ours = np.array([ema_decay(int(t), cap) for t in stored["decay_steps"]])
        assert reference.relative_error(ours, stored[f"tf1_effective_decay/{cap}"]) <= 1e-6


@pytest.mark.parametrize("cap", [0.99999, 0.9999, 0.9, 0.5])
def test_ema(cap):
    stored = reference.arrays("ema")
    model = torch.nn.ParameterList([torch.from_numpy(stored["init"].copy())])
    ema = EMA(model, decay=cap)
    for step, current in enumerate(stored["current"]):
        model[0].data = torch.from_numpy(current)
        ema.update(step)
        error = np.abs(ema.model[0].numpy() - stored[f"tf1_ema/{cap}"][step]).max()
        assert error <= 1e-6 * np.abs(stored["current"]).max()


def test_five_steps_of_sgd_agc_ema():
    stored = reference.arrays("nfnet_tiny_sgd_agc")
    model = reference.nfnet(reference.MICRO, reference.below("step0/param", stored))
    depths = reference.MICRO.depths
    groups = param_groups(model, weight_decay=2e-5, clipping=0.01)
    for group in groups:  # every parameter has the reference's hyperparameters
        for name in group["param_names"]:
            key = next(k for k in HYPER if deepmind.parameter_name(k, depths) == name)
            decay, clipping, eps, momentum = HYPER[key]
            assert group["weight_decay"] == pytest.approx(np.nan_to_num(decay), rel=1e-6)
            assert (group["clipping"] is None) == bool(np.isnan(clipping))
            assert (eps, momentum) == pytest.approx((1e-3, 0.9), nan_ok=True)
    optimizer = AGCSGD(groups, momentum=0.9, nesterov=True, eps=1e-3)
    ema = EMA(model, decay=0.99999)
    images, labels = reference.nchw(stored["images"]), torch.from_numpy(stored["labels"]).long()
    targets = soft_labels(labels, 10, smoothing=0.1)

    for step in range(5):
        lr = warmup_cosine(step, peak=0.1, warmup_steps=2.5, total_steps=8)
        assert lr == pytest.approx(stored[f"step{step}/lr"].item(), rel=1e-6)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = softmax_cross_entropy(model(images), targets).mean()
        assert loss.item() == pytest.approx(stored[f"step{step}/loss"].item(), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        if step in (0, 4):
            gradients = {n: p.grad for n, p in model.named_parameters()}
            compare(gradients, reference.below(f"step{step}/grad", stored), depths, 1e-4)
        optimizer.step()
        ema.update(step)
        assert optimizer.clipped_units.item() == stored["agc_triggered_units"][step]
        assert optimizer.total_units == stored["agc_total_units"][step]
        after = f"step{step + 1}"
        compare(model.state_dict(), reference.below(f"{after}/param", stored), depths, 1e-5)
        compare(ema.state_dict(), reference.below(f"{after}/ema", stored), depths, 1e-5)

    momentum = {
        name: optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in model.named_parameters()
    }
    compare(momentum, reference.below("step5/momentum", stored), depths, 1e-4)


HYPER = reference.below("hyper", reference.arrays("nfnet_tiny_sgd_agc"))


def compare(ours, stored, depths, tolerance):
    """Compare every stored tensor, relative to its largest value."""
    assert len(stored) == 114
    for key, want in stored.items():
        value = ours[deepmind.parameter_name(key, depths)]
        error = reference.relative_error(value, deepmind.parameter_layout(want).numpy())
        assert error <= tolerance, (key, error)
