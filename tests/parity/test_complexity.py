"""Multiply-adds equal those of the authors' networks."""

from __future__ import annotations

import pytest

from normfree.analysis.complexity import count_macs, count_parameters
from normfree.models import build_model
from tests.parity.test_networks import COUNTS, TABLE, built


@pytest.mark.parametrize("variant", COUNTS)
def test_macs(variant):
    want, model = COUNTS[variant], built(variant)
    if "jaxpr_macs_224" in want:
        assert count_macs(model, 224) == want["jaxpr_macs_224"]
    else:
        assert count_macs(model, want["train_imsize"]) == want["jaxpr_macs_train"]
        assert count_macs(model, want["test_imsize"]) == want["jaxpr_macs_test"]


@pytest.mark.parametrize("number", [50, 101, 152, 200])
def test_macs_of_batch_normalized_resnets(number):
    model = build_model(f"bn_resnet{number}", device="meta")
    assert count_macs(model, 224) == TABLE[f"ResNet(BN,v2)-ResNet{number}"]["jaxpr_macs_224"]


PAPER_TABLE_3 = {
    "nfnet_f0": ("12.38B", "71.5M"),
    "nfnet_f1": ("35.54B", "132.6M"),
    "nfnet_f2": ("62.59B", "193.8M"),
    "nfnet_f3": ("114.76B", "254.9M"),
    "nfnet_f4": ("215.24B", "316.1M"),
    "nfnet_f5": ("289.76B", "377.2M"),
    "nfnet_f6": ("377.28B", "438.4M"),
}


@pytest.mark.parametrize("name", PAPER_TABLE_3)
def test_table_3_of_the_paper(name):
    model = build_model(name, device="meta")
    macs = count_macs(model, model.config.test_size)
    printed = (f"{macs / 1e9:.2f}B", f"{count_parameters(model) / 1e6:.1f}M")
    assert printed == PAPER_TABLE_3[name]
