"""Parameter roles in our networks and in others."""

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
    """Gains shaped like filters, a batch norm, and a classifier nested two levels deep."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.conv.gain = nn.Parameter(torch.ones(8, 1, 1, 1))
        self.norm = nn.BatchNorm2d(8)
        self.skipinit_gain = nn.Parameter(torch.zeros(()))
        self.head = nn.Sequential()
        self.head.add_module("fc", nn.Linear(8, 4))


def test_a_third_party_network():
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


@pytest.mark.parametrize(
    ("unclipped", "apart"),
    [
        ("conv", {"conv.weight", "conv.bias", "conv.gain"}),
        (["conv.gain", "norm"], {"conv.gain", "norm.weight", "norm.bias"}),
        (["*.bias"], {"conv.bias", "norm.bias", "head.fc.bias"}),
        (["head"], {"head.fc.bias"}),  # its weight is never clipped
        (["co?v.[wg]*"], {"conv.weight", "conv.gain"}),
        ([], set()),
    ],
)
def test_layers_that_are_not_clipped(unclipped, apart):
    model = TimmLike()
    groups = param_groups(model, weight_decay=1e-4, clipping=0.02, unclipped=unclipped)
    names = [name for group in groups for name in group["param_names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    usual = {n: g["name"] for g in param_groups(model) for n in g["param_names"]}
    for group in groups:
        for name in group["param_names"]:
            assert group["name"] == usual[name] + ", unclipped" * (name in apart)
            untouched = name in apart or name == "head.fc.weight"
            assert group["clipping"] == (None if untouched else 0.02)
            decayed = name in {"conv.weight", "head.fc.weight"}
            assert group["weight_decay"] == (1e-4 if decayed else 0.0)


def test_the_paper_s_ablation_of_layers():
    """Section 4.1: any combination of the first convolution, the classifier and the stages."""
    model = normfree.create_model("nf_resnet50", num_classes=10)
    first, stage = "stem.conv", "stages.0"
    assert {name for name, _ in model.named_parameters() if name.startswith(f"{first}.")}

    def clipped(**settings):
        groups = param_groups(model, **settings)
        return {n for g in groups if g["clipping"] is not None for n in g["param_names"]}

    everything = {name for name, _ in model.named_parameters()}
    assert clipped(classifier=None) == everything
    assert clipped() == everything - {"classifier.weight"}
    assert clipped(unclipped=["classifier"]) == {n for n in everything if "classifier" not in n}
    for place in (first, stage):
        gone = clipped() - clipped(unclipped=[place])
        assert gone == {n for n in everything if n.startswith(f"{place}.")}
    assert not clipped(unclipped=["*"])


def test_names_match_whole_components():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12)))
    groups = roles(param_groups(model, classifier=None, unclipped=["1"]))
    assert groups["weights, unclipped"] == ["1.weight"]
    assert len(groups["weights"]) == 11


def test_either_name_excludes_a_tied_parameter():
    model = TimmLike()
    model.twin = nn.Conv2d(3, 8, 3, bias=False)
    model.twin.weight = model.conv.weight
    assert roles(param_groups(model, unclipped=["twin"]))["weights, unclipped"] == ["conv.weight"]


def test_unknown_names():
    with pytest.raises(UserError, match=r"layer or parameter 'cnv'; did you mean conv\b"):
        param_groups(TimmLike(), unclipped=["conv", "cnv"])
    with pytest.raises(UserError, match="'zzz'; known: conv, head, norm, skipinit_gain"):
        param_groups(TimmLike(), unclipped="zzz")
    with pytest.raises(UserError, match="'zzz'"):
        param_groups(TimmLike(), clipping=None, unclipped="zzz")


def test_where_nothing_is_clipped_no_group_is_split():
    model = TimmLike()
    assert roles(param_groups(model, clipping=None, unclipped="conv")) == roles(param_groups(model))


def test_a_tied_parameter_appears_once():
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


def tied(first, second):
    """Two layers that share a weight, in the given order."""
    layers = {"body": nn.Linear(4, 4), "fc": nn.Linear(4, 4)}
    layers["fc"].weight = layers["body"].weight
    return nn.ModuleDict({name: layers[name] for name in (first, second)})


@pytest.mark.parametrize("order", [("body", "fc"), ("fc", "body")])
def test_a_weight_shared_with_the_classifier_is_the_classifier_s(order):
    groups = param_groups(tied(*order), clipping=0.01)
    (group,) = [g for g in groups if g["name"] == "classifier weight"]
    assert group["param_names"] == [f"{order[0]}.weight"]
    assert group["clipping"] is None
    assert sum(len(g["params"]) for g in groups) == 3
    clipped = param_groups(tied(*order), classifier=None)
    assert roles(clipped)["weights"] == [f"{order[0]}.weight"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0"),
        ({"clipping": 0.0}, "clipping must be above 0 and finite, or None"),
        ({"clipping": math.inf}, "clipping must be above 0 and finite, or None"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(UserError, match=message):
        param_groups(TimmLike(), **setting)
