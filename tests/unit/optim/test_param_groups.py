"""Every parameter by its role, in networks of ours and of others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import normfree
from normfree import UserError
from normfree.optim import AGCSGD, group_table, param_groups


def roles(groups):
    return {group["name"]: group["param_names"] for group in groups}


class TimmLike(nn.Module):
    """Gains in the shape of filters, a batch norm, a classifier two levels down."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.conv.gain = nn.Parameter(torch.ones(8, 1, 1, 1))
        self.norm = nn.BatchNorm2d(8)
        self.skipinit_gain = nn.Parameter(torch.zeros(()))
        self.head = nn.Sequential()
        self.head.add_module("fc", nn.Linear(8, 4))


def test_someone_else_s_network():
    groups = param_groups(TimmLike(), weight_decay=1e-4, clipping=0.02)
    assert roles(groups) == {
        "weights": ["conv.weight"],
        "classifier weight": ["head.fc.weight"],
        "gains and biases": [
            "skipinit_gain",
            "conv.bias",
            "conv.gain",
            "norm.weight",
            "norm.bias",
            "head.fc.bias",
        ],
    }
    settings = {g["name"]: (g["weight_decay"], g["clipping"]) for g in groups}
    assert settings == {
        "weights": (1e-4, 0.02),
        "classifier weight": (1e-4, None),
        "gains and biases": (0.0, 0.02),
    }


def test_a_network_without_classifier_has_no_group_for_it():
    groups = roles(param_groups(normfree.create_model("nfnet_pico", num_classes=0)))
    assert list(groups) == ["weights", "gains and biases"]
    both = nn.ModuleDict({"classifier": nn.Identity(), "fc": nn.Linear(8, 2)})
    assert roles(param_groups(both))["classifier weight"] == ["fc.weight"]


def test_names_belong_to_their_parameters():
    model = normfree.create_model("nfnet_pico")
    own = dict(model.named_parameters())
    for group in param_groups(model):
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            assert own[name] is parameter


def test_frozen_parameters_and_empty_groups_are_left_out():
    model = TimmLike()
    model.head.requires_grad_(False)
    groups = param_groups(model)
    assert [g["name"] for g in groups] == ["weights", "gains and biases"]
    assert "head.fc.bias" not in groups[1]["param_names"]
    model.requires_grad_(False)
    with pytest.raises(UserError, match="all are frozen"):
        param_groups(model)


def test_the_classifier_by_name():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(UserError, match="pass classifier='its name', or classifier=None"):
        param_groups(model)
    assert roles(param_groups(model, classifier="1"))["classifier weight"] == ["1.weight"]
    assert roles(param_groups(model, classifier=None))["weights"] == ["0.weight", "1.weight"]
    with pytest.raises(UserError, match="has no layer 'fc'"):
        param_groups(model, classifier="fc")


def test_without_clipping_nothing_is_clipped():
    assert {g["clipping"] for g in param_groups(TimmLike(), clipping=None)} == {None}


def test_a_tied_parameter_is_there_once():
    model = TimmLike()
    model.twin = nn.Conv2d(3, 8, 3)
    model.twin.weight = model.conv.weight
    identities = [id(p) for g in param_groups(model) for p in g["params"]]
    assert len(identities) == len(set(identities)) == len(list(model.parameters()))


def test_optimizers_take_the_groups_and_keep_their_names():
    for kind in (AGCSGD, torch.optim.SGD, torch.optim.AdamW):
        optimizer = kind(param_groups(TimmLike()), lr=0.1)
        assert optimizer.param_groups[0]["name"] == "weights"
        saved = optimizer.state_dict()
        assert saved["param_groups"][1]["param_names"] == ["head.fc.weight"]
        optimizer.load_state_dict(saved)


def test_the_table_counts_everything():
    model = normfree.create_model("nfnet_pico")
    table = group_table(param_groups(model))
    assert sum(row[1] for row in table) == len(list(model.parameters()))
    assert sum(row[2] for row in table) == sum(p.numel() for p in model.parameters())
    assert math.isnan({row[0]: row[4] for row in table}["classifier weight"])
