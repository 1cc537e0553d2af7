from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import normfree
from normfree.errors import UserError
from normfree.weights import Pretrained, load_model, locate, save_model
from normfree.weights import pretrained as registry
from normfree.weights.download import download
from tests.unit.weights.files import pico, write_haiku
from tests.unit.weights.web_server import WebServer, web_server

CONTENT = bytes(range(256)) * 40_000  # ten blocks


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("NORMFREE_CACHE", str(tmp_path / "cache"))
    with web_server() as running:
        running.files["/a/weights.bin"] = CONTENT
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_fetched_once_and_its_checksum_kept(
    server: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = download(f"{server.url}/a/weights.bin")
    assert file.read_bytes() == CONTENT
    assert file.name == "weights.bin"
    assert file.is_relative_to(tmp_path / "cache" / "weights")
    said = capsys.readouterr().err
    assert "10.2 MB" in said
    assert f"no checksum is published for it; its SHA-256 {sha256(CONTENT)} is compared" in said
    assert download(f"{server.url}/a/weights.bin") == file
    assert len(server.asked) == 1
    assert not capsys.readouterr().err


def test_a_file_that_changes_in_the_cache_is_noticed(server: WebServer) -> None:
    file = download(f"{server.url}/a/weights.bin")
    file.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(UserError, match="it is damaged; remove it, and it is downloaded again"):
        download(f"{server.url}/a/weights.bin")
    file.unlink()
    assert download(f"{server.url}/a/weights.bin").read_bytes() == CONTENT
    file.unlink()
    server.files["/a/weights.bin"] = b"another file"
    with pytest.raises(UserError, match=f"not {sha256(CONTENT)}; nothing of it was kept"):
        download(f"{server.url}/a/weights.bin")
    assert not file.exists()


def test_a_known_checksum_is_compared(server: WebServer) -> None:
    url = f"{server.url}/a/weights.bin"
    with pytest.raises(UserError, match=f"has the SHA-256 {sha256(CONTENT)}, not {64 * '0'}"):
        download(url, 64 * "0")
    assert download(url, sha256(CONTENT)).read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_goes_on_where_it_stopped(server: WebServer, ranges: bool) -> None:
    url, server.ranges, server.break_after = f"{server.url}/a/weights.bin", ranges, 3_000_000
    with pytest.raises(UserError, match="after 3,000,000 of 10,240,000 bytes; run the same again"):
        download(url)
    server.break_after = None
    assert download(url).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=3000000-"]


def test_the_rest_of_another_file_is_not_appended(server: WebServer) -> None:
    url, server.break_after = f"{server.url}/a/weights.bin", 3_000_000
    with pytest.raises(UserError, match="broke off"):
        download(url)
    server.break_after, server.files["/a/weights.bin"] = None, CONTENT[::-1]
    assert download(url).read_bytes() == CONTENT[::-1]


def test_damage_on_the_way_is_noticed_where_the_server_says_what_it_sent(server: WebServer) -> None:
    server.md5 = hashlib.md5(b"what was meant").digest()
    with pytest.raises(UserError, match="was damaged on its way; nothing was kept"):
        download(f"{server.url}/a/weights.bin")
    server.md5 = hashlib.md5(CONTENT).digest()
    assert download(f"{server.url}/a/weights.bin").read_bytes() == CONTENT


def test_what_is_not_there_and_a_machine_without_a_network(server: WebServer) -> None:
    with pytest.raises(UserError, match=r"cannot download .*the server says 404 Not Found"):
        download(f"{server.url}/b")
    with pytest.raises(UserError, match="is offline, download it elsewhere and pass its path"):
        download("http://127.0.0.1:1/weights.bin")  # a port that nothing listens to


def test_a_cache_that_cannot_be_written(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match="set NORMFREE_CACHE to another directory"):
        download(f"{server.url}/a/weights.bin")


def publish(server: WebServer, monkeypatch: pytest.MonkeyPatch, path: str, model: str) -> None:
    entry = Pretrained(model, f"{server.url}{path}", "none", 80.0, 8, "a test")
    monkeypatch.setattr(registry, "PRETRAINED", (entry,))


def test_published_weights_by_one_word(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved = pico()
    save_model(saved, tmp_path / "pico.safetensors")
    server.files["/pico.safetensors"] = (tmp_path / "pico.safetensors").read_bytes()
    publish(server, monkeypatch, "/pico.safetensors", "nfnet_pico")
    model = normfree.create_model("nfnet_pico", weights="pretrained")
    for name, value in saved.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert load_model("pretrained:nfnet_pico").config == model.config
    with pytest.raises(UserError, match="no published weights: unknown model 'nfnet_nano'"):
        normfree.create_model("nfnet_nano", weights="pretrained")
    with pytest.raises(UserError, match="name the network, such as pretrained:nfnet_f0"):
        locate("pretrained")


def test_a_file_of_the_authors_by_its_url(server: WebServer, tmp_path: Path) -> None:
    write_haiku(saved := pico(), tmp_path / "pico.npz")
    server.files["/P_haiku.npz"] = (tmp_path / "pico.npz").read_bytes()
    model = normfree.create_model("nfnet_pico", weights=f"{server.url}/P_haiku.npz")
    assert torch.equal(model.state_dict()["classifier.bias"], saved.state_dict()["classifier.bias"])
