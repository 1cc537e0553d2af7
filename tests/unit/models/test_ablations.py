"""Networks for the rows of tables 2 and 6 and the negative results of appendix E."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.models import ABLATIONS, build_model
from normfree.models.dct_stem import DCTStem
from normfree.nn import BottleneckSpec, Layers, NFBlock, SESpec

SHRUNK = {
    "widths": (16, 32, 48, 48),
    "depths": (1, 1, 2, 1),
    "group_widths": (4, 4, 8, 8),
    "stem_channels": (4, 4, 8),
    "num_classes": 5,
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_forward_and_backward(name):
    torch.manual_seed(0)
    fields = SHRUNK | {k: v for k, v in ABLATIONS[name].items() if k not in SHRUNK}
    model = build_model("nfnet_f0", **fields)
    with torch.no_grad():
        for block in model.modules():
            if isinstance(block, NFBlock):
                block.skip_gain.fill_(1.0)
    model(torch.randn(2, 3, 50, 41)).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


def parameters(name):
    model = build_model("nfnet_f0", device="meta", **ABLATIONS[name])
    return sum(p.numel() for p in model.parameters())


def test_second_conv_is_the_network_itself():
    assert parameters("second_conv") == 71_489_284


def test_second_conv_adds_its_convolutions_only():
    blocks, widths = [1, 2, 6, 3], [128, 256, 768, 768]
    added = sum(n * (9 * 128 * w + 2 * w) for n, w in zip(blocks, widths, strict=True))
    assert parameters("second_conv") - parameters("modified_width") == added


def test_bottleneck_of_input_narrows_transition_blocks_only():
    model = build_model("nfnet_f1", device="meta", **ABLATIONS["mixed_bottlenecks"])
    widths = [[block.conv1.out_channels for block in stage] for stage in model.stages]
    assert widths[0] == [32, 64]  # 128 · ¼, then 256 · ¼
    assert widths[1] == [64, 128, 128, 128]
    assert set(widths[2]) == {768}


def test_pointwise_groups():
    model = build_model("nfnet_f0", device="meta", **ABLATIONS["grouped_pointwise"])
    block = model.stages[1][0]
    assert (block.conv0.groups, block.conv2.groups, block.conv1.groups) == (2, 2, 2)


def test_straddled_gate_reads_the_input_of_the_last_convolution():
    spec = BottleneckSpec(
        in_channels=8, out_channels=16, width=8, groups=2, se=SESpec(place="straddled")
    )
    block = NFBlock(spec, layers=Layers(activation="relu"))
    assert (block.squeeze_excite.fc0.in_features, block.squeeze_excite.fc1.out_features) == (8, 16)
    a = torch.randn(2, 8, 6, 6)
    hidden = block.act2(block.conv1b(block.act1b(block.conv1(block.act1(block.conv0(a))))))
    want = block.conv2(hidden) * block.squeeze_excite.gate(hidden)
    assert torch.allclose(block.branch(a), want)


def test_dct_stem_keeps_energy_and_is_the_dct():
    scipy_fft = pytest.importorskip("scipy.fft")
    stem = DCTStem(2, 8, Layers())
    x = torch.randn(1, 2, 16, 24)
    coefficients = stem.dct(x)
    assert coefficients.shape == (1, 128, 2, 3)
    assert coefficients.square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-5)
    patch = x[0, 1, 8:16, 16:24].numpy()
    want = scipy_fft.dctn(patch, norm="ortho").ravel()
    np.testing.assert_allclose(coefficients[0, 64:, 1, 2].numpy(), want, atol=1e-5)
    assert not stem.dct.weight.requires_grad


def test_dct_network_has_the_resolution_of_two_fewer_strides():
    model = build_model("nfnet_f0", device="meta", **ABLATIONS["dct_stem"])
    maps = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
    assert [m.shape[2] for m in maps] == [8, 8, 4, 2]
