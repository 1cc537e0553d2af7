from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from normfree import atomic
from normfree.errors import UserError
from normfree.inference import load
from normfree.models import build_model
from normfree.weights import convert, load_model, save_model, timm
from tests.unit.weights.files import pico, write_haiku


def card_of(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["normfree"])


def test_convert_records_what_it_read(tmp_path: Path) -> None:
    model = pico()
    source = write_haiku(model, tmp_path / "F0_haiku.npz")
    done = convert(source, tmp_path / "out.safetensors")
    digests = [
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("F0_haiku.npz", "out.safetensors")
    ]
    assert [done.source_sha256, done.sha256] == digests
    assert (done.model, done.written_as, done.source_layout) == (*["nfnet_pico"] * 2, "deepmind")
    assert done.parameters == sum(p.numel() for p in model.parameters())
    assert card_of(tmp_path / "out.safetensors")["source"] == {
        "file": "F0_haiku.npz",
        "layout": "deepmind",
        "sha256": digests[0],
    }
    for name, value in load_file(tmp_path / "out.safetensors").items():
        assert torch.equal(value, model.state_dict()[name])


def test_what_was_converted_can_classify(tmp_path: Path) -> None:
    convert(write_haiku(pico(), tmp_path / "w"), tmp_path / "out.safetensors")
    predictor = load(tmp_path / "out.safetensors")
    assert predictor.card.classes == ("0", "1", "2", "3", "4")
    assert predictor.card.test_size == 8
    assert predictor.card.mean == (123.675, 116.28, 103.53)


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    save_model(pico(), path)
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space left"):
            save_model(pico(), path, card={"classes": list("abcde")})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_no_file_to_write(tmp_path: Path) -> None:
    save_model(pico(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"is a directory; name a file in it"):
        convert(tmp_path / "a.safetensors", tmp_path)


def test_a_card_survives(tmp_path: Path) -> None:
    save_model(pico(), tmp_path / "a", card={"classes": list("abcde"), "model": "not this"})
    convert(tmp_path / "a", tmp_path / "b")
    card = card_of(tmp_path / "b")
    assert card["classes"] == list("abcde")
    assert card["model"]["name"] == "nfnet_pico"  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("nfnet_pico", {}),
        ("nf_resnet50", {"pool_shortcut": True, "padding": "symmetric"}),
        ("nf_regnet_b0", {"channel_divisor": 8, "padding": "symmetric"}),
    ],
)
def test_to_timm_and_back(
    name: str, fields: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # timm has no pico network: it replaces F0, which has the same names and is 500 times larger.
    models = {"dm_nfnet_pico": ("nfnet_pico", {}), **timm.MODELS}
    monkeypatch.setattr(timm, "MODELS", models)
    torch.manual_seed(0)
    model = build_model(name, num_classes=7, **fields).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith(("gain", "bias")):  # skip_gain starts at zero
                value.add_(0.5 * torch.rand(value.shape) + 0.1)
        torch.nn.init.normal_(model.classifier.weight)
    save_model(model, tmp_path / "ours")
    done = convert(tmp_path / "ours", tmp_path / "timm", to="timm")
    assert done.written_as == {"nfnet_pico": "dm_nfnet_pico"}.get(name, name)
    theirs = load_file(tmp_path / "timm")
    assert theirs["stages.0.0.conv3.gain"].shape[1:] == (1, 1, 1)

    convert(tmp_path / "timm", tmp_path / "back")
    back = load_model(tmp_path / "back")
    assert back.config == model.config
    if name == "nfnet_pico":
        for key, value in model.state_dict().items():
            assert torch.equal(back.state_dict()[key], value), key
    else:  # timm has no SkipInit: the gain is absorbed, and the function is unchanged
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            want, got = model(x), back(x)
        np.testing.assert_allclose(got, want, atol=2e-5 * want.abs().max().item())


@pytest.mark.parametrize("name", ["nfnet_pico", "nfnet_f7", "nf_resnet50", "bn_resnet50"])
def test_networks_that_timm_lacks(name: str, tmp_path: Path) -> None:
    model = build_model(name, device="meta")
    with pytest.raises(UserError, match=f"timm has no network like this {name}"):
        save_model(model, tmp_path / "w", layout="timm")


def test_a_name_may_be_given(tmp_path: Path) -> None:
    source = write_haiku(pico(), tmp_path / "w")
    assert convert(source, tmp_path / "out", model="nfnet_pico").model == "nfnet_pico"
    with pytest.raises(UserError, match="does not fit NFNet"):
        convert(source, tmp_path / "out", model="nfnet_nano")


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    save_model(pico(), tmp_path / "w")
    before = (tmp_path / "w").read_bytes()
    with pytest.raises(UserError, match="is the source itself"):
        convert(tmp_path / "w", tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
