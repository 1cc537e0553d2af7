from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

import normfree
from normfree.errors import UserError
from normfree.weights import locate, save_model
from tests.unit.weights.files import pico


def client(monkeypatch: pytest.MonkeyPatch, download: Any) -> None:
    """Replace the hub client with a fake."""
    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_a_model_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_model(pico(), tmp_path / "model.safetensors")
    asked: list[Any] = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(tmp_path / file)

    client(monkeypatch, download)
    model = normfree.create_model("nfnet_pico", weights="hf:someone/pico")
    assert model.config.num_classes == 5
    assert locate("hf:someone/pico@v1") == tmp_path / "model.safetensors"
    assert asked == [
        ("someone/pico", "model.safetensors", None),
        ("someone/pico", "model.safetensors", "v1"),
    ]


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise FileNotFoundError("no connection,\nand not in the cache")

    client(monkeypatch, download)
    message = "cannot download model.safetensors from a/b: no connection, and not in the cache; if"
    with pytest.raises(UserError, match=message):
        locate("hf:a/b")


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'normfree\[hub\]'.*huggingface\.co/a/b"):
        locate("hf:a/b")


@pytest.mark.parametrize("weights", ["hf:pico", "hf:a/b/c", "hf:"])
def test_what_names_no_repository(weights: str) -> None:
    with pytest.raises(UserError, match="expected hf:owner/name"):
        locate(weights)
