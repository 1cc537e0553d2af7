from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normfree.cli import main
from normfree.cli.export import Options, _calibration_images
from normfree.cli.export_check import Images, check_images, checked
from normfree.data import BadImages
from normfree.errors import UserError
from normfree.inference.agreement import agreement
from normfree.weights import ModelCard, save_model
from tests.unit.weights.files import pico

CARD = ModelCard(
    model={"name": "nfnet_pico"}, test_size=8, test_margin=0, mean=(0.0,) * 3, std=(1.0,) * 3
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six training images of two classes, and one to validate with each."""
    rng = np.random.default_rng(0)
    train = [f"train/{name}" for name in ("a/0", "a/1", "a/2", "b/0", "b/1", "b/2")]
    for name in (*train, "val/a/0", "val/b/0"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path


def test_calibration_passes_over_unreadable_images(folder: Path) -> None:
    options = Options(
        checkpoint=str(folder), out=folder, int8=True, data=f"folder:{folder}", calibration_images=5
    )
    assert len(_calibration_images(CARD, options, BadImages())) == 5
    damaged = [folder / "train" / name for name in ("a/1.png", "b/0.png")]
    for path in damaged:
        path.write_bytes(b"")
    bad = BadImages()
    assert len(_calibration_images(CARD, options, bad)) == 4
    assert sorted(bad.names) == [str(path) for path in damaged]
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 6 images of folder:.* can be read"):
        _calibration_images(CARD, options, BadImages())


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["export", *map(str, words)])
    return end.value.code or 0  # type: ignore[return-value]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    card = {"classes": list("0123456789"), "mean": [1.0], "std": [2.0], "data": "digits"}
    save_model(pico(in_channels=1, num_classes=10), tmp_path / "m.safetensors", card=card)
    return tmp_path / "m.safetensors"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ["out.pt2", "out.safetensors", "out.json"])
def test_a_file_is_kept_unless_told_otherwise(
    name: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = tmp_path / name
    out = old.with_suffix(".safetensors") if old.suffix == ".json" else old
    old.write_text("mine")
    assert run(model, out) == 1
    assert f"{old} exists and was kept" in (said := capsys.readouterr().err)
    assert "--overwrite" in said
    for answer in ("", "\n", "n\n", "no\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert run(model, out) == 1
        assert f"{old} exists; replace it? [y/N]" in capsys.readouterr().err
        assert old.read_text() == "mine"
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert run(model, out) == 0
    old.write_text("mine")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(model, out, "--overwrite") == 0
    assert old.read_bytes() != b"mine"


def test_agreement_is_numpys() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(70, 4)).astype(np.float32) for _ in range(2))
    b = a + 0.3 * b
    labels = rng.integers(0, 4, 70)
    rows = torch.arange(70)[:, None]
    one, other = (torch.from_numpy(table) for table in (a, b))
    found = agreement(
        lambda x: one[x[:, 0]],  # type: ignore[arg-type]
        lambda x: other[x[:, 0]],  # type: ignore[arg-type]
        images=rows,
        labels=torch.from_numpy(labels),
    )
    p, q = (np.exp(t) / np.exp(t).sum(axis=1, keepdims=True) for t in (a, b))
    assert found.difference == pytest.approx(np.abs(p - q).max(), rel=1e-5)
    assert found.same_top1 == pytest.approx(np.mean(a.argmax(1) == b.argmax(1)))
    right = [np.mean(t.argmax(1) == labels) for t in (a, b)]
    assert found.accuracy == pytest.approx(right)


def test_a_file_that_computes_something_else_is_told(folder: Path) -> None:
    card = ModelCard(**{**vars(CARD), "classes": ("a", "b")})
    images = check_images(card, "here", f"folder:{folder}")
    assert (len(images.pixels), images.said) == (2, f"validation images of folder:{folder}")
    assert images.labels is not None
    labels = images.labels
    right = torch.nn.functional.one_hot(labels, 2).float()
    (line, lost) = checked(
        lambda x: right,  # type: ignore[arg-type]
        lambda x: 1 - right,  # type: ignore[arg-type]
        images,
        card,
        int8=True,
    )
    assert "differ from the network's by 0.5 at most, and 0.00% have the same top-1" in line
    assert "int8 lost 100.00 points of accuracy on them: 100.00% before, 0.00% now" in lost
    (said,) = checked(lambda x: right / 0, lambda x: right, images, card, int8=False)  # type: ignore[arg-type]
    assert "logits are not finite" in said


def test_noise_checks_a_file_where_no_images_are_at_hand(folder: Path) -> None:
    card = ModelCard(**{**vars(CARD), "classes": ("a", "b"), "data": f"folder:{folder}"})
    images: Images = check_images(card, str(folder / "model.safetensors"), None)
    assert (images.said, images.labels) == ("images of noise", None)
    with pytest.raises(UserError, match="there is no directory"):
        check_images(card, "here", f"folder:{folder}/nowhere")
