"""Places for checkpoints: a directory, and what fsspec reaches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch

from normfree.errors import UserError
from normfree.train.checkpoint import newest_checkpoint
from normfree.train.components import Loop, Place
from normfree.train.fit import fit
from normfree.train.keeping import Mark
from normfree.train.remote_store import RemoteStore
from normfree.train.run_dir import RunDirectory
from normfree.train.runtime import Runtime
from normfree.train.store import LocalStore, Store, open_store
from normfree.train.writer import CheckpointWriter
from normfree.weights.checkpoint_directory import SUMS
from tests.unit.train.tiny import assert_same_bits, final_state, flat, tiny_recipe


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["directory", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    places = {
        "directory": str(tmp_path / "there"),
        "file": f"file://{tmp_path}/there",
        "memory": "memory://there/run",
    }
    return open_store(places[request.param], RunDirectory(tmp_path))


def save(store: Store, step: int, **keep: int) -> None:
    writer = CheckpointWriter(store, Runtime(device="cpu"), Loop(**keep))
    content = {"config": {}, "state": {"w": torch.full((3,), float(step))}}
    with writer.closing():
        writer.save(content, step=step, mark=Mark(epoch=step, score=step % 5 / 5))


def test_without_a_place_checkpoints_are_in_the_run(tmp_path: Path) -> None:
    store = open_store(None, RunDirectory(tmp_path))
    assert isinstance(store, LocalStore)
    assert store.directory == tmp_path / "checkpoints"


def test_what_is_written_is_found(store: Store) -> None:
    store.prepare()
    assert newest_checkpoint(store) == (None, [])
    for step in (3, 20):
        save(store, step)
    content, passed_over = newest_checkpoint(store)
    assert (content or {})["step"] == 20
    assert torch.equal((content or {})["state"]["w"], torch.full((3,), 20.0))
    assert passed_over == []


def test_rules_keep_checkpoints_also_of_an_earlier_process(store: Store) -> None:
    store.prepare()
    for step in range(1, 15):
        save(store, step, keep_checkpoints=2, keep_best=1, keep_epochs=6)
    assert store.steps() == [6, 12, 13, 14]
    save(store, 15, keep_checkpoints=1, keep_best=2, keep_epochs=100)
    assert store.steps() == [13, 14, 15]


def test_a_checkpoint_is_written_again(store: Store) -> None:
    store.prepare()
    for _ in range(2):
        save(store, 3)
    assert store.steps() == [3]
    assert (newest_checkpoint(store).content or {})["step"] == 3


def test_one_without_its_checksums_is_not_there_and_goes_away() -> None:
    store, files = RemoteStore("memory://there/run"), fsspec.filesystem("memory")
    for step in (3, 4):
        save(store, step)
    files.rm_file(f"/there/run/step-00000004/{SUMS}")
    assert store.steps() == [3]
    store.prepare()
    assert not files.exists("/there/run/step-00000004")
    assert (newest_checkpoint(store).content or {})["step"] == 3


def test_damage_far_away_is_noticed() -> None:
    store, files = RemoteStore("memory://there/run"), fsspec.filesystem("memory")
    for step in (3, 4):
        save(store, step)
    path = "/there/run/step-00000004/shard-00000-of-00001.safetensors"
    files.pipe_file(path, files.cat_file(path)[:-1])
    content, passed_over = newest_checkpoint(store)
    assert (content or {})["step"] == 3
    assert "does not match its checksum" in passed_over[0]


def test_an_upload_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    store = RemoteStore("memory://there/run")
    save(store, 3)

    def refused(*args: object, **kwargs: object) -> None:
        raise ValueError("access denied")

    monkeypatch.setattr(type(store._files), "_open", refused)
    with pytest.raises(UserError, match=r"step 4 cannot be written to memory:.*access denied"):
        save(store, 4)
    assert store.steps() == [3]


def test_protocols_that_are_not_known_or_not_installed_are_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"--checkpoint-dir nowhere://x: .*nowhere"):
        RemoteStore("nowhere://x")
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"pip install 'normfree\[remote\]'"):
        RemoteStore("memory://x")


@pytest.mark.parametrize("kind", ["directory", "memory"])
def test_a_run_keeps_its_checkpoints_elsewhere(kind: str, tmp_path: Path) -> None:
    place = "memory://runs/1" if kind == "memory" else str(tmp_path / "there")
    settings = {"checkpoint_every": 100, "keep_checkpoints": 1}
    fit(tiny_recipe(tmp_path / "run", checkpoint_dir=place, **settings))
    assert not (tmp_path / "run" / "checkpoints").exists()
    fit(tiny_recipe(tmp_path / "usual", **settings))
    elsewhere = open_store(place, RunDirectory(tmp_path / "run"))
    found = newest_checkpoint(elsewhere).content or {}
    assert_same_bits(flat(found["state"]), final_state(tmp_path / "usual"))
    again = tiny_recipe(tmp_path / "run", checkpoint_dir=place, resume=True, **settings)
    assert fit(again).steps == 8
    with pytest.raises(UserError, match="checkpoints of another run; choose another"):
        fit(tiny_recipe(tmp_path / "other", checkpoint_dir=place))


def test_a_secret_in_the_place_of_checkpoints_is_refused_and_a_variable_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"token=…"):
        Place(checkpoint_dir="memory://here?token=a1b2")
    place = Place(checkpoint_dir="memory://$BUCKET/run")
    monkeypatch.setenv("BUCKET", "pets")
    assert place.checkpoint_dir is not None
    store = RemoteStore(place.checkpoint_dir)
    with store.writing(1, "state.json") as file:
        file.write(b"...")
    assert RemoteStore("memory://pets/run").read(1, "state.json") == b"..."
    store.discard(1)
