from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normfree.cli.export import Options, _calibration_images
from normfree.data import BadImages
from normfree.errors import UserError
from normfree.weights import ModelCard

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
