"""Every form computes what the network does, for any number of images."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.inference.forms import FORMS, Example, named
from normfree.inference.forms.prepacked import PackedConv2d, pad_zeros
from normfree.inference.openvino_network import OpenVinoNetwork
from normfree.models import ImageClassifier, build_model

#: Largest error of each form; float32 forms not listed have 1e-5.
TOLERANCE = {"onnx_int8": 0.25, "openvino_int8": 0.25} | dict.fromkeys(
    ("bfloat16", "prepacked_bfloat16", "openvino_bfloat16"), 0.05
)
SLOW = {"compiled"}  # a compiler runs for half a minute


def network() -> ImageClassifier:
    torch.manual_seed(0)
    model = build_model("nfnet_pico", num_classes=7)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("skip_gain"):
            nn.init.constant_(parameter, 0.7)
        if parameter_name == "classifier.weight":
            nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


def images(count: int, size: int = 9) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in FORMS]
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")  # torch's own
@torch.no_grad()
def test_a_form_equals_the_network_for_any_batch_size(name: str) -> None:
    model = network()
    example = Example(model, images(3), calibration=images(32))
    if lack := FORMS[name].lacks(example):
        pytest.skip(lack)
    form = FORMS[name].build(example)
    for count in (3, 1, 8, 3):
        x = images(8)[:count]
        want, found = model(x), form(x)
        assert found.dtype == torch.float32
        assert (found - want).abs().max() <= TOLERANCE.get(name, 1e-5) * want.abs().max()
    if name in TOLERANCE:
        assert not torch.equal(form(x), model(x))  # it computes in another type


@pytest.mark.parametrize("name", ["prepacked", "channels_last"])
@torch.no_grad()
def test_forms_of_plain_layers_take_any_image_size(name: str) -> None:
    model = network()
    form = FORMS[name].build(Example(model, images(2)))
    for size in (9, 12, 17):
        x = images(3, size)
        torch.testing.assert_close(form(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["nf_resnet50", "nf_regnet_b0"])
@torch.no_grad()
def test_other_families_are_packed(family: str) -> None:
    torch.manual_seed(0)
    model = build_model(family, num_classes=5).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("skip_gain"):
            nn.init.constant_(parameter, 0.7)
    x = images(2, 33)
    form = FORMS["prepacked"].build(Example(model, x))
    want = model(x)
    assert (form(x) - want).abs().max() <= 1e-5 * want.abs().max()
    assert any(isinstance(part, PackedConv2d) for part in form.modules())


@torch.no_grad()
def test_the_images_are_not_written_to() -> None:
    x = images(2)
    before = x.clone()
    form = FORMS["prepacked"].build(Example(network(), x))
    form(x.contiguous(memory_format=torch.channels_last))
    form(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("padding", [[0, 0, 0, 0], [1, 0, 0, 2], [2, 1, 1, 1]])
def test_padding_with_zeros(padding: list[int]) -> None:
    x = images(2, 5)
    assert torch.equal(pad_zeros(x, padding), F.pad(x, padding))


def test_a_form_that_is_not_there() -> None:
    with pytest.raises(UserError, match="unknown form 'prepack'; did you mean prepacked"):
        named(["prepack"])
    assert "compiled" not in [form.name for form in named()]


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normfree.inference.forms.form.find_spec", lambda name: None)
    example = Example(network(), images(1), calibration=images(4))
    assert FORMS["onnx"].lacks(example) == "needs onnx: pip install 'normfree[onnx]'"
    monkeypatch.setattr(
        "normfree.inference.forms.form.find_spec",
        lambda name: None if name == "openvino" else find_spec(name),
    )
    assert FORMS["openvino"].lacks(example) == "needs openvino: pip install 'normfree[openvino]'"
    assert not FORMS["folded"].lacks(example)
    assert "calibrate" in FORMS["onnx_int8"].lacks(Example(network(), images(1)))


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")
@torch.no_grad()
def test_openvino_serves_threads_and_says_what_it_takes() -> None:
    model = network()
    form = OpenVinoNetwork(Example(model, images(2)).onnx, "model.onnx")
    x = images(2)
    want, found = model(x), []
    threads = [threading.Thread(target=lambda: found.append(form(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for logits in found:
        torch.testing.assert_close(logits, want, rtol=0, atol=1e-5)
    assert form(x[:0]).shape == (0, 7)
    with pytest.raises(UserError, match=r"model\.onnx takes images of shape \(3, 9, 9\)"):
        form(images(1, 12))
    with pytest.raises(UserError, match="OpenVINO cannot load"):
        OpenVinoNetwork(b"no graph", "model.onnx")


LEFT_BEHIND = """
import signal, sys, threading
import torch
from normfree.inference.openvino_network import OpenVinoNetwork

content = open(sys.argv[1], "rb").read()
left = [OpenVinoNetwork(content, "model.onnx") for _ in range(2)]
for network in left:
    network(torch.zeros(1, 3, 9, 9))
del network, left[0]  # the older one first
other = threading.Thread(target=left.clear)  # the other one by a thread that did not make it
other.start()
other.join()
signal.signal(signal.SIGTERM, lambda signum, frame: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")
def test_signals_are_handled_after_openvino_networks_are_gone(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(Example(network(), images(1)).onnx)
    command = [sys.executable, "-X", "faulthandler", "-c", LEFT_BEHIND, tmp_path / "model.onnx"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
