from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from normfree import atomic
from normfree.errors import UserError
from normfree.train.checkpoint import (
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)


def save(directory: Path, step: int, keep: int = 10) -> Path:
    content = {"config": {}, "state": {"w": torch.tensor(float(step))}}
    return save_checkpoint(directory, content, step=step, keep=keep)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    content = read_checkpoint(save(tmp_path, 7))
    assert (content["step"], content["state"]["w"].item()) == (7, 7.0)


def test_only_the_newest_stay(tmp_path: Path) -> None:
    for step in (9, 10, 100, 1000):
        save(tmp_path, step, keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000100.pt", "step-00001000.pt"]


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000):
        assert save(tmp_path, step, keep=2).exists()
    assert [p.name for p in list_checkpoints(tmp_path)] == [
        "step-99999999.pt",
        "step-100000000.pt",
    ]
    newest, _ = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest["step"] == 100_000_000


def test_what_is_written_stays_beside_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    later = [tmp_path / f"step-0000000{step}.pt" for step in (7, 8)]
    for path in later:
        path.touch()
    written = save(tmp_path, 5, keep=1)
    assert list_checkpoints(tmp_path) == [written, *later]


def test_files_of_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("step-best.pt", "step-1.pt.tmp", "step--1.pt", "step-1 copy.pt", "step-٣.pt"):
        (tmp_path / name).touch()
    path = save(tmp_path, 1, keep=1)
    assert list_checkpoints(tmp_path) == [path]
    assert len(list(tmp_path.iterdir())) == 6


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, 1)
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space left"):
            save(tmp_path, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_newest_that_can_be_read_is_found(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    cut, empty = tmp_path / "step-00000003.pt", tmp_path / "step-00000004.pt"
    cut.write_bytes(cut.read_bytes()[:-40])
    empty.touch()
    content, damaged = newest_checkpoint(tmp_path)
    assert content is not None
    assert content["step"] == 2
    assert damaged == [empty, cut]


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    weights = torch.zeros(1000)
    path = save_checkpoint(tmp_path, {"config": {}, "state": {"w": weights}}, step=1, keep=1)
    content = bytearray(path.read_bytes())
    place = content.index(bytes(2000)) + 1000
    content[place] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["state"]["w"].count_nonzero() == 1
    with pytest.raises(UserError, match="damaged"):
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


def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "step": 1, "x": Hostile()}, tmp_path / "step-00000001.pt")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path / "step-00000001.pt")
    assert not Path("executed").exists()


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
    content = {"format": 1, "step": 1, "config": {}, "state": {}}
    del content[missing]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match="not a checkpoint that this version"):
        read_checkpoint(tmp_path / "x.pt")
