"""Checkpoints: written whole or not at all, every damage noticed, nothing of them ever executed."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from normfree.errors import UserError
from normfree.train import store as stores
from normfree.train.checkpoint import (
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from normfree.weights.checkpoint_directory import STATE, SUMS, read_sums, sums_text
from tests.unit.train.tiny import assert_same_bits, flat

SHARD = "shard-00000-of-00001.safetensors"


def save(directory: Path, step: int, keep: int = 10) -> Path:
    content = {"config": {}, "state": {"w": torch.tensor(float(step))}}
    return save_checkpoint(directory, content, step=step, keep=keep)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {
        "model": {"w.a": torch.randn(3, 4, generator=generator), "n": torch.tensor(7)},
        "half": torch.randn(5, generator=generator).bfloat16(),
        "images_last": torch.randn(2, 3, 4, 5, generator=generator).to(
            memory_format=torch.channels_last
        ),
        "none": torch.zeros(0, 2),
        "optimizer": {
            "state": {0: {"m": torch.ones(2)}, 11: {}},
            "groups": [{"lr": 0.1}],
        },
        "best": -1.0,
        "flag": True,
        "nothing": None,
    }
    path = save_checkpoint(tmp_path, {"config": {"a": [1]}, "state": state}, step=7, keep=1)
    content = read_checkpoint(path)
    assert (content["step"], content["config"]) == (7, {"a": [1]})
    assert_same_bits(flat(content["state"]), flat(state))
    for name, tensor in flat(state).items():
        if isinstance(tensor, torch.Tensor):
            assert flat(content["state"])[name].dtype == tensor.dtype


def test_the_checksums_are_what_xxh128sum_reads(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    lines = (path / SUMS).read_text().splitlines()
    wanted = {SHARD, STATE}
    assert {line.split("  ")[1] for line in lines} == wanted
    for name in wanted:
        assert f"{xxhash.xxh3_128((path / name).read_bytes()).hexdigest()}  {name}" in lines


def test_only_the_newest_stay(tmp_path: Path) -> None:
    for step in (9, 10, 100, 1000):
        save(tmp_path, step, keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000100", "step-00001000"]


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000):
        assert save(tmp_path, step, keep=2).exists()
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-99999999", "step-100000000"]
    newest, _ = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest["step"] == 100_000_000


def test_what_is_written_stays_beside_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    later = [tmp_path / f"step-0000000{step}" for step in (7, 8)]
    for path in later:
        path.mkdir()
    written = save(tmp_path, 5, keep=1)
    assert list_checkpoints(tmp_path) == [written, *later]


def test_a_checkpoint_is_written_again(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    (path / SHARD).write_bytes(b"")
    (path / "more").touch()
    assert save(tmp_path, 5) == path
    assert float(read_checkpoint(path)["state"]["w"]) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("step-best", "step--1", "step-1 copy", "step-٣", "step-2", "step-1.pt.tmp"):
        (tmp_path / name).touch()
    (tmp_path / "step-3.pt").mkdir()
    path = save(tmp_path, 1, keep=1)
    assert list_checkpoints(tmp_path) == [path]
    assert len(list(tmp_path.iterdir())) == 8


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, 1)
    before = {file: file.read_bytes() for file in path.iterdir()}

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stores.os, "fsync", full_disk)
        with pytest.raises(UserError, match=r"step 1 cannot be written .*No space left.*stay"):
            save(tmp_path, 1)
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_is_finished_or_removed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    path.rename(tmp_path / ".replaced-step-00000001")
    unfinished = tmp_path / ".unfinished-step-00000002"
    unfinished.mkdir()
    (unfinished / SHARD).write_bytes(b"half")
    assert newest_checkpoint(tmp_path).content is None
    stores.LocalStore(tmp_path).prepare()
    assert list(tmp_path.iterdir()) == [path]
    assert read_checkpoint(path)["step"] == 1


def test_the_newest_that_can_be_read_is_found(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    cut, empty = tmp_path / "step-00000003" / SHARD, tmp_path / "step-00000004"
    cut.write_bytes(cut.read_bytes()[:-4])
    empty.mkdir()
    content, passed_over = newest_checkpoint(tmp_path)
    assert content is not None
    assert content["step"] == 2
    assert len(passed_over) == 2
    assert "step-00000004 is damaged: it has no XXH128SUMS" in passed_over[0]
    assert f"step-00000003 is damaged: {SHARD} does not match its checksum" in passed_over[1]


def test_the_clock_does_not_matter(tmp_path: Path) -> None:
    for step in (1, 2):
        path = save(tmp_path, step)
        os.utime(path, (1e9 / step, 1e9 / step))
        for file in path.iterdir():
            os.utime(file, (1e9 / step, 1e9 / step))
    content, _ = newest_checkpoint(tmp_path)
    assert content is not None
    assert content["step"] == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of some tensors."""
    generator = torch.Generator().manual_seed(0)
    state = {"model": {f"{i}.weight": torch.randn(7, 5, generator=generator) for i in range(9)}}
    content = {"config": {"recipe": {"name": "x"}}, "card": {"classes": ["a"]}, "state": state}
    return save_checkpoint(tmp_path_factory.mktemp("whole"), content, step=3, keep=1)


Damage = Callable[[bytes, random.Random], bytes]


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("damage", [truncated, flipped])
@pytest.mark.parametrize("name", [SHARD, STATE, SUMS])
def test_damage_is_always_noticed(damage: Damage, name: str, whole: Path) -> None:
    draw = random.Random(f"{damage.__name__} {name}")
    content = (whole / name).read_bytes()
    try:
        for _ in range(50):
            (whole / name).write_bytes(damage(content, draw))
            with pytest.raises(UserError, match="is damaged"):
                read_checkpoint(whole)
    finally:
        (whole / name).write_bytes(content)
    assert read_checkpoint(whole)["step"] == 3


def test_a_file_too_few_or_too_many_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / "more.safetensors").touch()
    with pytest.raises(UserError, match=r"'more.safetensors' does not belong to it"):
        read_checkpoint(path)
    (path / "more.safetensors").unlink()
    (path / SHARD).unlink()
    with pytest.raises(UserError, match=f"{SHARD} is missing"):
        read_checkpoint(path)


def crafted(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the state of a checkpoint, and its checksums too."""
    state = json.loads((path / STATE).read_text())
    change(state)
    (path / STATE).write_text(json.dumps(state))
    digest = xxhash.xxh3_128((path / STATE).read_bytes()).hexdigest()
    (path / SUMS).write_bytes(sums_text(read_sums(path) | {STATE: digest}))


CRAFTED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no tensors": lambda x: x.pop("tensors"),
    "no rows": lambda x: x["tensors"]["state/w"].update(rows=[]),
    "another shape": lambda x: x["tensors"]["state/w"].update(shape=[2**40]),
    "another file": lambda x: x["tensors"]["state/w"].update(rows=[["../../etc/passwd", 0]]),
    "rows twice": lambda x: x["tensors"]["state/w"].update(rows=[[SHARD, 0], [SHARD, 3]]),
    "a later row": lambda x: x["tensors"]["state/w"].update(rows=[[SHARD, 1]]),
    "a number": lambda x: x["tensors"].update({"state/w": 3}),
    "a tensor that is not there": lambda x: x["state"].update(v={"$tensor": "state/v"}),
    "a number that is none": lambda x: x["state"].update(v={"$numbered": {"１": 0}}),
    "not a number": lambda x: x["state"].update(v=float("nan")),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_checkpoint_is_refused(name: str, tmp_path: Path) -> None:
    path = save_checkpoint(
        tmp_path, {"config": {}, "state": {"w": torch.zeros(3, 2)}}, step=1, keep=1
    )
    crafted(path, CRAFTED[name])
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"a":' * 900 + "1" + "}" * 900])
def test_json_that_is_no_state_is_refused(text: str, tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / STATE).write_text(text)
    digest = xxhash.xxh3_128(text.encode()).hexdigest()
    (path / SUMS).write_bytes(sums_text(read_sums(path) | {STATE: digest}))
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(path)


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") == (None, [])


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "step-00000004.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="none of the 1 checkpoints"):
        newest_checkpoint(tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)


def test_a_file_of_an_older_version_is_read_and_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = {"format": 1, "step": 1, "config": {}, "state": {"w": torch.zeros(2)}}
    torch.save(old, tmp_path / "step-00000001.pt")
    content, _ = newest_checkpoint(tmp_path)
    assert content is not None
    assert content["step"] == 1
    torch.save({**old, "x": Hostile()}, tmp_path / "step-00000001.pt")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path / "step-00000001.pt")
    assert not Path("executed").exists()


def test_a_file_of_an_older_version_is_removed_in_its_turn(tmp_path: Path) -> None:
    torch.save({"format": 1, "step": 1}, tmp_path / "step-00000001.pt")
    path = save(tmp_path, 2, keep=1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({"format": 1})])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pt is damaged or no checkpoint"):
        read_checkpoint(path)


def test_another_programs_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="not a checkpoint that this version"):
        read_checkpoint(tmp_path / "x.pt")


def test_an_absent_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("missing", ["config", "state", "step", "format"])
def test_a_checkpoint_lacks_nothing(missing: str, tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    crafted(path, lambda state: state.pop(missing))
    with pytest.raises(UserError, match="not a checkpoint that this version"):
        read_checkpoint(path)
