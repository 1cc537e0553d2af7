from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import normfree
from normfree.errors import UserError
from normfree.models import ImageClassifier
from normfree.weights import (
    load_model,
    load_state_dict,
    load_weights,
    read_parameters,
    save_model,
    timm,
)
from tests.unit.weights.files import haiku_tree, pico, write_haiku


def write_timm(model: ImageClassifier, path: Path) -> Path:
    """Write an NFNet in timm's format, with timm's names and 4-D gains."""
    timm_names = {}
    for name, value in model.state_dict().items():
        timm_names[_timm_name(name)] = (
            value.reshape(-1, 1, 1, 1)
            if name.endswith(".gain")
            else value[:, :, None, None]
            if "squeeze_excite" in name and value.ndim == 2
            else value
        )
    torch.save({"state_dict": timm_names}, path)
    return path


def _timm_name(name: str) -> str:
    for ours, theirs in (
        ("conv2.", "conv3."),
        ("conv1b.", "conv2b."),
        ("conv1.", "conv2."),
        ("conv0.", "conv1."),
    ):
        if f".{ours}" in name and "shortcut" not in name and not name.startswith("stem"):
            return name.replace(ours, theirs)
    if name.startswith("stem.conv"):
        return f"stem.conv{int(name[9]) + 1}{name[10:]}"
    for ours, theirs in (
        ("shortcut.", "downsample."),
        ("squeeze_excite.fc0", "attn_last.fc1"),
        ("squeeze_excite.fc1", "attn_last.fc2"),
        ("skip_gain", "skipinit_gain"),
        ("head.conv", "final_conv"),
        ("classifier", "head.fc"),
    ):
        name = name.replace(ours, theirs)
    return name


def write_ours(model: ImageClassifier, path: Path) -> Path:
    save_model(model, path)
    return path


def write_bare(model: ImageClassifier, path: Path) -> Path:
    save_file(model.state_dict(), path)
    return path


WRITERS = {"authors": write_haiku, "timm": write_timm, "ours": write_ours, "bare": write_bare}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_the_file_alone_gives_the_network(kind: str, tmp_path: Path) -> None:
    model = pico(in_channels=1)
    path = WRITERS[kind](model, tmp_path / "weights.whatever")  # the content identifies the format
    loaded = load_model(path)
    assert not loaded.training
    assert loaded.config == model.config
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("kind", list(WRITERS))
def test_create_model_takes_what_the_file_tells(kind: str, tmp_path: Path) -> None:
    model = pico(in_channels=1)
    path = WRITERS[kind](model, tmp_path / "weights")
    created = normfree.create_model("nfnet_pico", weights=path, drop_rate=0.4)
    assert created.training
    assert (created.config.num_classes, created.config.in_channels) == (5, 1)
    assert created.config.drop_rate == 0.4
    for name, value in model.state_dict().items():
        assert torch.equal(created.state_dict()[name], value), name


@pytest.mark.parametrize("kind", list(WRITERS))
def test_a_new_classifier_keeps_the_rest_and_says_so(kind: str, tmp_path: Path) -> None:
    model = pico()
    path = WRITERS[kind](model, tmp_path / "weights")
    with pytest.warns(UserWarning, match="newly initialized: .* 5 classes .* 7 classes"):
        created = normfree.create_model("nfnet_pico", weights=path, num_classes=7)
    assert created.classifier.weight.shape[0] == 7
    for name, value in model.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(created.state_dict()[name], value), name
    with pytest.warns(UserWarning, match="5 classes and the model no classifier"):
        normfree.create_model("nfnet_pico", weights=path, num_classes=0)


def test_the_same_number_of_classes_is_loaded_in_silence(tmp_path: Path) -> None:
    model = pico()
    created = normfree.create_model(
        "nfnet_pico", weights=write_ours(model, tmp_path / "w"), num_classes=5
    )
    assert torch.equal(created.classifier.weight, model.classifier.weight)


def test_weights_without_a_classifier(tmp_path: Path) -> None:
    model = pico(num_classes=0)
    path = write_bare(model, tmp_path / "w")
    assert load_model(path).config.num_classes == 0
    with pytest.warns(UserWarning, match="has no classifier and the model 3 classes"):
        assert load_model(path, num_classes=3).config.num_classes == 3


def test_a_classifier_of_another_size_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = write_ours(pico(), tmp_path / "w")
    with pytest.raises(UserError, match=r"wrong shape classifier\.bias \(file 5, model 7\)"):
        load_weights(pico(num_classes=7), path)


def test_nothing_is_half_loaded(tmp_path: Path) -> None:
    model = pico()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    state["stem.conv0.gain"] = torch.zeros(9)
    state["stem.conv9.gain"] = state.pop("stem.conv1.gain")
    with pytest.raises(UserError) as error:
        load_state_dict(model, state, "a file")
    assert str(error.value) == (
        "a file does not fit NFNet: missing stem.conv1.gain; unexpected stem.conv9.gain; "
        "wrong shape stem.conv0.gain (file 9, model 8)"
    )
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize("kind", list(WRITERS))
def test_weights_of_another_network(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](pico(), tmp_path / "w")
    with pytest.raises(UserError):
        normfree.create_model("nf_resnet50", weights=path, device="meta")


def test_weights_of_no_known_network(tmp_path: Path) -> None:
    path = write_bare(pico(widths=(32, 64, 96, 112)), tmp_path / "w")
    with pytest.raises(UserError, match=r"\(75 tensors .*\) fits no network|fits no network"):
        load_model(path)
    # Our own files have a card with what names and shapes do not determine.
    model = pico(widths=(32, 64, 96, 112), alpha=0.3, activation="silu")
    assert load_model(write_ours(model, tmp_path / "w")).config == model.config


def test_more_blocks_than_the_network_has(tmp_path: Path) -> None:
    tree = haiku_tree(pico())
    tree["NFNet/~/nf_block_9/~/conv0"] = {"w": np.zeros((1, 1, 4, 4), np.float32)}
    (tmp_path / "w").write_bytes(pickle.dumps(tree))
    with pytest.raises(UserError, match="more than 5 blocks"):
        load_weights(pico(), tmp_path / "w")


class Hostile:
    def __reduce__(self) -> object:
        return print, ("it ran",)


def test_torch_files_run_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": torch.zeros(1), "x": Hostile()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth is damaged or refused: .*print"):
        read_parameters(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


def test_old_torch_files(tmp_path: Path) -> None:
    state = {f"module.{k}": v for k, v in pico().state_dict().items()}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert load_model(tmp_path / "w.pth").config.name == "nfnet_pico"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no weights"),
        (b"PK\x03\x04 but no archive", "damaged or refused"),
        (b"hello, these are no weights", "holds no weights"),
        (b"\x10\0\0\0\0\0\0\0{not a header....", "damaged or not a .safetensors"),
        (b"\x80\x04.", "damaged"),
    ],
)
def test_other_files_are_said(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "w")


def test_a_torch_file_that_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "w")
    with pytest.raises(UserError, match="holds no state dict"):
        load_model(tmp_path / "w")


@pytest.mark.parametrize("card", ["[]", '{"model": 3}', '{"model": {"depths": [1]}}', "{"])
def test_a_damaged_card(card: str, tmp_path: Path) -> None:
    save_file(pico().state_dict(), tmp_path / "w", metadata={"normfree": card})
    with pytest.raises(UserError, match="damaged"):
        load_model(tmp_path / "w")


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are no weights at .*absent"):
        load_model(tmp_path / "absent")


def test_the_writer_of_this_test_names_as_timm_does(tmp_path: Path) -> None:
    names = read_parameters(write_timm(pico(), tmp_path / "w")).values
    assert {timm.parameter_name(name) for name in names} == pico().state_dict().keys()
