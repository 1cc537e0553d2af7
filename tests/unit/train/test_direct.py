from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from normfree.train import direct
from normfree.train.direct import DirectFile

BLOCK = direct._BLOCK


def written(path: Path, parts: list[bytes]) -> bytes:
    file = DirectFile(path)
    for part in parts:
        assert file.write(part) == len(part)
    file.sync()
    file.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    "sizes", [[], [0], [5], [BLOCK], [BLOCK - 1, 1], [BLOCK - 1, 2], [3, 2 * BLOCK, 4096, 7]]
)
def test_all_bytes_are_written(sizes: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.bytes(size) for size in sizes]
    assert written(tmp_path / "file", parts) == b"".join(parts)


def test_a_file_system_that_refuses_direct_writes_gets_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = os.write, []

    def picky(descriptor: int, content: memoryview) -> int:
        if not refused:
            refused.append(len(content))
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, content)

    part = np.random.default_rng(0).bytes(BLOCK + 3)
    with monkeypatch.context() as patch:
        patch.setattr(direct.os, "write", picky)
        with closing(DirectFile(tmp_path / "probe")) as probe:
            if not probe._direct:
                pytest.skip("this file system has no direct writes")
        assert written(tmp_path / "file", [part]) == part
    assert refused == [BLOCK]


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    part = np.random.default_rng(0).bytes(BLOCK + 3)
    with monkeypatch.context() as patch:
        patch.setattr(direct.os, "write", lambda fd, content: real(fd, content[:5_000_001]))
        assert written(tmp_path / "file", [part]) == part


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = DirectFile(tmp_path / "file")
    monkeypatch.setattr(direct.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        file.write(bytes(BLOCK))
    file.close()
