"""Folded full-size networks match the outputs of the authors' networks."""

from __future__ import annotations

import pytest
import torch

from normfree.models import build_model
from normfree.models.folding import fold
from normfree.weights import load_state_dict
from tests.parity import reference

FORWARDS = {
    "nfnet_f0": ("nfnet_f0", {}, ["192x192"]),
    "nf_resnet50": ("nf_resnet50", {}, ["64x64", "75x61"]),
    "nf_resnet50_se": ("nf_resnet50", {"se_place": "output"}, ["64x64", "75x61"]),
    "nf_regnet_b0": ("nf_regnet_b0", {}, ["64x64", "75x61"]),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("file", FORWARDS)
@torch.inference_mode()
def test_forward(file, channels_last):
    name, fields, sizes = FORWARDS[file]
    stored = reference.arrays(f"{file}_forward")
    model = build_model(name, **fields)
    load_state_dict(model, reference.hashed_state(model, stored), "the reference")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    folded = fold(model).to(memory_format=layout)
    for size in sizes:
        want = reference.below(size, stored)
        logits = folded(reference.nchw(want["input"]).to(memory_format=layout))
        assert reference.relative_error(logits, want["logits"]) <= 1e-5, size
