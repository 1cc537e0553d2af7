"""Gains: closed forms, Monte Carlo, errors."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch

from normfree import UserError
from normfree.nn import ACTIVATIONS, ScaledActivation, estimate_gain

ELEMENTWISE = sorted(set(ACTIVATIONS) - {"glu", "log_softmax"})

CLOSED_FORMS = {
    "identity": (lambda x: x, 1.0),
    "scaled": (lambda x: -3 * x + 7, 1 / 3),
    "relu": (torch.relu, (2 / (1 - 1 / math.pi)) ** 0.5),
    "abs": (torch.abs, (1 - 2 / math.pi) ** -0.5),
    "square": (torch.square, 0.5**0.5),
    "exp": (torch.exp, (math.e**2 - math.e) ** -0.5),
    "sin": (torch.sin, (2 / (1 - math.exp(-2))) ** 0.5),
    "leaky": (
        lambda x: torch.where(x > 0, x, 0.01 * x),
        ((1 + 0.01**2) / 2 - 0.99**2 / (2 * math.pi)) ** -0.5,
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_estimate_gain_against_closed_forms(name):
    function, gain = CLOSED_FORMS[name]
    assert estimate_gain(function) == pytest.approx(gain, rel=1e-7)


def test_estimate_gain_is_deterministic_and_consumes_no_randomness():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert estimate_gain(torch.tanh) == estimate_gain(torch.tanh)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_each_gain_gives_unit_variance(name):
    z = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    assert ScaledActivation(name)(z).var().item() == pytest.approx(1, abs=0.02)
    assert ScaledActivation(name, gain="exact")(z).var().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["glu", "log_softmax"])
def test_gains_of_activations_that_mix_channels(name):
    """For many channels log-softmax is a shift, and the halves of a GLU are independent."""
    z = torch.randn(500, 4096, generator=torch.Generator().manual_seed(0))
    assert ScaledActivation(name)(z).var(dim=0).mean().item() == pytest.approx(1, abs=0.02)
    with pytest.raises(UserError, match="mixes channels"):
        ScaledActivation(name, gain="exact")


def test_custom_functions_get_their_exact_gain():
    assert ScaledActivation(torch.sin).gain == estimate_gain(torch.sin)
    assert ScaledActivation(torch.sin).name == "sin"
    assert ScaledActivation(torch.sin, gain=2.5).gain == 2.5
    assert ScaledActivation("relu", gain=1).gain == 1.0
    assert ScaledActivation("relu").gain == ACTIVATIONS["relu"].gain
    assert "silu, gain=1.78813" in repr(ScaledActivation("silu"))


@pytest.mark.parametrize(
    "function",
    [torch.ones_like, torch.log, lambda x: torch.exp(x**4), lambda x: x / 0],
    ids=["constant", "undefined below zero", "infinite variance", "division by zero"],
)
def test_no_gain_exists(function):
    with pytest.raises(UserError, match="has no gain"):
        estimate_gain(function)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UserError, match=r"'gleu'; did you mean .*gelu"):
        ScaledActivation("gleu")
    with pytest.raises(UserError, match=r"gain 'exat'; did you mean exact\?"):
        ScaledActivation("relu", gain="exat")


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_no_parameters_no_in_place_changes_and_copyable(name):
    activation, x = ScaledActivation(name), torch.randn(2, 4, 3, 3)
    before = x.clone()
    y = activation(x)
    assert list(activation.state_dict()) == []
    assert torch.equal(x, before)
    assert y.shape == ((2, 2, 3, 3) if name == "glu" else x.shape)
    for twin in (copy.deepcopy(activation), pickle.loads(pickle.dumps(activation))):
        assert torch.equal(twin(x), y)
    assert activation(x.bfloat16()).dtype == torch.bfloat16
