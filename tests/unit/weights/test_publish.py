"""Networks to and from the hub: by the hub's own client, against a server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import normfree
from normfree.errors import UserError
from normfree.weights import ModelCard, read_parameters, save_model
from normfree.weights.model_page import model_page
from normfree.weights.publish import FILES, prepare, pull
from tests.unit.weights.fake_hub import TOKEN, FakeHub, fake_hub
from tests.unit.weights.files import pico

MODEL = {"name": "nfnet_pico", "num_classes": 5, "in_channels": 3}
CARD = {
    "classes": ("cat", "dog", "a|b", "`x`\n# y", "犬"),
    "mean": (120.5, 110.0, 100.0),
    "std": (60.0, 60.0, 60.0),
    "recipe": "folder",
    "data": "folder:/home/ann/secret/pets",
    "metrics": {"epoch": 7, "val_top1": 0.5, "val_top1_ema": 0.9125, "test_top1": 0.875},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory, as far as anybody outside needs it."""
    save_model(pico(), tmp_path / "run" / "model.safetensors", card=CARD)
    (tmp_path / "run" / "config.yaml").write_text("data: /home/ann/secret/pets")
    return tmp_path / "run"


def metadata(page: str) -> dict:
    return yaml.safe_load(page.split("---\n")[1])


def test_the_files_of_a_repository(run: Path, tmp_path: Path) -> None:
    files = prepare(run, "ann/pets", tmp_path / "out", license_id="mit")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert [path.name for path in files] == list(FILES)
    assert not [path for path in files if b"secret" in path.read_bytes()]
    assert json.loads(files[1].read_text())["data"] == "folder:pets"
    before, after = (read_parameters(path / "model.safetensors") for path in (run, files[0].parent))
    assert before.values.keys() == after.values.keys()
    assert all(torch.equal(before.values[name], after.values[name]) for name in before.values)


def test_the_page_says_what_was_measured_and_how_to_load_it(run: Path, tmp_path: Path) -> None:
    page = prepare(run, "ann/pets", tmp_path, license_id="mit")[2].read_text()
    about = metadata(page)
    assert about["license"] == "mit"
    assert about["pipeline_tag"] == "image-classification"
    results = about["model-index"][0]["results"]
    assert [(r["dataset"]["split"], r["metrics"][0]["value"]) for r in results] == [
        ("test", 0.875),
        ("validation", 0.9125),
    ]
    assert "| Top-1 accuracy | validation | 91.25 % |" in page
    assert 'normfree.load("hf:ann/pets")' in page
    assert "recipe `folder` on `folder:pets` (weights of epoch 7)" in page
    assert "`a/b`, `'x'\\n# y`, `犬`" in page  # nothing in a name is markup
    assert "No license" not in page


def test_the_hub_s_own_reader_understands_the_page(run: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(prepare(run, "ann/pets", tmp_path)[2].read_text())
    assert card.data.library_name == "normfree"
    assert [r.metric_value for r in card.data.eval_results] == [0.875, 0.9125]
    assert "No license has been stated" in card.text


def test_a_page_of_a_network_that_says_little() -> None:
    page = model_page(ModelCard(model=MODEL, test_size=32), "ann/pets", parameters=10)
    assert "model-index" not in metadata(page)
    assert "## Results" not in page
    assert "## Classes" not in page


def test_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    torch.save(pico().state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="has no model card"):
        prepare(tmp_path / "other.pth", "ann/pets", tmp_path / "out")
    with pytest.raises(UserError, match="expected hf:owner/name"):
        prepare(tmp_path / "other.pth", "pets", tmp_path / "out")


def command(hub: FakeHub, where: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """``normfree`` as a process that takes the server for the hub."""
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(where / "hf")}
    return subprocess.run(
        [sys.executable, "-m", "normfree", *map(str, words)],
        env={**os.environ, **settings, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True, text=True, cwd=where, check=False, timeout=120,
    )  # fmt: skip


def test_push_then_pull(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with fake_hub() as hub:
        done = command(hub, tmp_path, "push", run, "ann/pets", "--private", "--license", "mit")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith(f"uploaded: {hub.url}/ann/pets/commit/")
        assert set(hub.files) == {f"ann/pets/{name}" for name in FILES}
        assert hub.private == {"ann/pets": True}
        assert metadata(hub.files["ann/pets/README.md"].decode())["license"] == "mit"

        done = command(hub, tmp_path, "pull", "ann/pets")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "nfnet_pico, 5 classes, 8 px: runs/pets\n"
        got = tmp_path / "runs" / "pets"
        assert (got / "model.safetensors").read_bytes() == hub.files["ann/pets/model.safetensors"]
        assert not [path for path in got.iterdir() if path.name not in FILES]
        predictor = normfree.load(got)
        assert predictor.card.classes == CARD["classes"]

        again = command(hub, tmp_path, "pull", "ann/pets")
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert "is there already; name another folder with --out" in again.stderr


def test_faults_of_a_hub_are_one_line(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with fake_hub() as hub:
        hub.refuse = True
        refused = command(hub, tmp_path, "push", run, "ann/pets")
        hub.private["ann/damaged"] = False
        hub.files["ann/damaged/model.safetensors"] = b"\x80\x04cos\nsystem\n(S'touch x'\ntR."
        damaged = command(hub, tmp_path, "pull", "ann/damaged", "--out", "damaged")
        missing = command(hub, tmp_path, "pull", "ann/nothing", "--out", "nothing")
    for done in (refused, damaged, missing):
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("normfree: ")
    assert "cannot upload to ann/pets" in refused.stderr
    assert "HF_TOKEN" in refused.stderr
    assert "cannot download model.safetensors from ann/nothing" in missing.stderr
    assert not [name for name in ("damaged", "nothing", "x") if (tmp_path / name).exists()]


def test_nothing_is_sent_without_asking(run: Path, tmp_path: Path) -> None:
    with fake_hub() as hub:
        shown = command(hub, tmp_path, "push", run, "ann/pets", "--dry-run")
        kept = command(hub, tmp_path, "push", run, "ann/pets", "--card-only", "page")
        assert hub.asked == []
    assert (shown.returncode, kept.returncode) == (0, 0), shown.stderr + kept.stderr
    assert "pipeline_tag: image-classification" in shown.stdout.splitlines()
    assert shown.stdout.splitlines()[-1] == "nothing was sent to ann/pets"
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == sorted(FILES)


def test_without_the_client(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'normfree\[hub\]'"):
        pull("ann/pets", tmp_path / "out")
