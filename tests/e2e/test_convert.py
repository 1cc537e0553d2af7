"""The authors' file to ours, to timm's, and a photograph classified with it."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

from tests.e2e.command import assert_one_line, normfree
from tests.unit.weights.files import pico, write_haiku


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.marker}",)


def test_convert_and_predict(tmp_path: Path, photographs: Path) -> None:
    source = write_haiku(pico(), tmp_path / "F0_haiku.npz")
    out = tmp_path / "out.safetensors"
    result = normfree("convert", source, out)
    assert result.returncode == 0, result.stderr
    for path in (source, out):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in result.stdout
    assert "nfnet_pico" in result.stdout
    assert "under the names of deepmind" in result.stdout

    image = next((photographs / "val" / "flower").iterdir())
    result = normfree("predict", out, image, "--top", "2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("%") == 2

    assert_one_line(normfree("eval", out), 1, "does not say what it was trained on", "--data")


def test_a_hostile_file_is_one_line(tmp_path: Path) -> None:
    source, marker, out = (tmp_path / name for name in ("F0_haiku.npz", "marker", "out"))
    source.write_bytes(pickle.dumps({"NFNet/~/linear": {"w": Hostile(marker)}}))
    result = normfree("convert", source, out)
    assert_one_line(result, 1, str(source), "system", "nothing in it was run")
    assert not marker.exists()
    assert not out.exists()
