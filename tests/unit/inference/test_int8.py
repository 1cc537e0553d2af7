from __future__ import annotations

from pathlib import Path

import onnx
import torch

from normfree.inference import export_model, open_exported, quantize_onnx
from tests.unit.inference.test_export import CARD, images, network


@torch.no_grad()
def test_weights_become_integers_and_logits_stay_near(tmp_path: Path) -> None:
    exact, small = tmp_path / "exact.onnx", tmp_path / "small.onnx"
    model = network(widths=(64, 128, 192, 192))
    export_model(model, exact, CARD)
    quantize_onnx(exact, small, images(64).split(16))
    kinds = {
        weight.data_type
        for weight in onnx.load(small).graph.initializer
        if weight.dims and len(weight.dims) == 4
    }
    assert kinds == {onnx.TensorProto.INT8}
    assert small.stat().st_size < 0.4 * exact.stat().st_size
    network_8, card = open_exported(small)
    assert card.classes == tuple(CARD["classes"])
    x = images(200)
    want = model(x)
    spread = (want - want.mean(dim=0)).std()
    found = network_8(x)
    assert 0 < (found - want).std() < 0.2 * spread
    assert len(found.unique()) > 512  # more values than 8 bits have, so logits do not tie
