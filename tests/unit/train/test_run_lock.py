"""One writer for a directory: living, killed, and on file systems without locks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import normfree.train.run_lock as run_lock
from normfree.errors import UserError
from normfree.train.run_lock import WRITER, locked

HOLD = """
import sys
from pathlib import Path
from normfree.train.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(directory: Path, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock, after it has run some lines."""
    with subprocess.Popen(
        [sys.executable, "-c", before + HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with holding(tmp_path) as process:
        yield process


def test_a_second_process_is_told_who_writes(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    said = rf"\(process {writer.pid} on .+, since 20"
    with pytest.raises(UserError, match=said), locked(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    writer.kill()
    writer.wait()
    assert (tmp_path / WRITER).exists()  # what it could not remove
    with locked(tmp_path):
        assert json.loads((tmp_path / WRITER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / WRITER).exists()


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"pid": 1}', "\x00", "[" * 4000])
def test_a_damaged_name_of_the_writer_is_left_out(
    text: str, writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    (tmp_path / WRITER).write_text(text)
    with pytest.raises(UserError, match=r"training in \S+; wait for it"), locked(tmp_path):
        pass


class _NoLocks(run_lock.FileLock):
    """As on a file system that cannot lock."""

    def acquire(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        raise OSError(errno.ENOLCK, "No locks available")


def test_without_locks_a_mark_keeps_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "FileLock", _NoLocks)
    refused = pytest.raises(UserError, match="another process is training")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_mark_of_a_dead_process_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "FileLock", _NoLocks)
    broken = (
        "import normfree.train.run_lock as r\n"
        "from tests.unit.train.test_run_lock import _NoLocks\n"
        "r.FileLock = _NoLocks\n"
    )
    with (
        holding(tmp_path, broken) as process,
        pytest.raises(UserError, match=f"process {process.pid} "),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass
