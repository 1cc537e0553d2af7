"""Spikes, clip shares, disk space, memory: what is said, and when."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from normfree.errors import UserError
from normfree.train.health.clip_share import ClipShare
from normfree.train.health.disk import DiskSpace
from normfree.train.health.memory import is_out_of_memory
from normfree.train.health.spikes import SpikeDetector
from normfree.train.health.writing import writing
from normfree.train.metrics import MetricsFile


def losses(count: int) -> list[float]:
    """Noisy, and falling, as losses do."""
    noise = random.Random(0)
    return [2 + 3 / (1 + step / 50) + noise.gauss(0, 0.05) for step in range(count)]


def test_noisy_losses_have_no_spikes() -> None:
    detector = SpikeDetector(20)
    assert [detector.see(step, loss) for step, loss in enumerate(losses(2000))] == [None] * 2000


def test_a_spike_is_noticed_once_while_it_lasts() -> None:
    detector, found = SpikeDetector(20), []
    series = losses(200)
    series[150:153] = [8.0, 9.0, 8.5]
    series[170] = 8.0
    for step, loss in enumerate(series):
        spike = detector.see(step, loss)
        if spike is not None:
            found.append((spike.step, spike.loss))
    assert found == [(150, 8.0), (170, 8.0)]


def test_losses_that_do_not_vary_have_no_spikes_of_rounding() -> None:
    detector = SpikeDetector(20)
    for step in range(50):
        assert detector.see(step, 1.0) is None
    assert detector.see(50, 1.0001) is None
    assert detector.see(51, 1.1) is not None


def test_after_going_back_what_was_forgotten_does_not_count() -> None:
    straight, back, series = SpikeDetector(20), SpikeDetector(20), losses(120)
    for step, loss in enumerate(series[:100]):
        straight.see(step, loss)
        back.see(step, loss)
    back.see(100, 50.0)
    back.go_back(80)
    for step in range(80, 100):
        back.see(step, series[step])
    assert straight.see(100, series[100]) is back.see(100, series[100]) is None
    assert straight.see(101, 50.0) is not None
    assert back.see(101, 50.0) is not None


def test_clipping_nothing_for_long_is_said_once() -> None:
    share = ClipShare()
    said = [share.see(0.0, steps=20) for _ in range(200)]
    assert [place for place, text in enumerate(said) if text] == [49]
    assert "no gradient for 1000 steps" in (said[49] or "")


def test_one_other_report_begins_the_count_again() -> None:
    share = ClipShare()
    for _ in range(9):
        assert share.see(1.0, steps=1) is None
    assert share.see(0.5, steps=1) is None
    for _ in range(9):
        assert share.see(1.0, steps=1) is None
    assert share.see(0.995, steps=1) is not None


def test_space_is_said_when_it_gets_short_and_when_half_of_that_is_left() -> None:
    free = iter([9000, 3900, 3500, 1900, 1800, 900])
    disk = DiskSpace(Path("x"), needed=1000, free=lambda path: next(free))
    said = [disk.warning() for _ in range(6)]
    assert [place for place, text in enumerate(said) if text] == [1, 3, 5]
    assert said[1] == (
        "3.9 KB are free in x, and a checkpoint takes 1.0 KB: make room, or the run will end"
    )


@pytest.mark.parametrize(("free", "full", "problem"), [(2000, False, False), (1200, True, False)])
def test_a_disk_is_full_while_there_is_room_for_one_more(
    free: int, full: bool, problem: bool
) -> None:
    disk = DiskSpace(Path("x"), needed=1000, free=lambda path: free)
    assert (disk.is_full, disk.problem() is not None) == (full, problem)
    assert "the disk is full" in (DiskSpace(Path("x"), 1000, lambda path: 1000).problem() or "")


def test_errors_about_memory_are_told_from_others() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    )
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_metrics_that_cannot_be_written_are_an_error_for_people(tmp_path: Path) -> None:
    """A limit of the kernel on the size of files stands for a full disk."""
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from normfree.errors import UserError\n"
        "from normfree.train.metrics import MetricsFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "file = MetricsFile(Path(sys.argv[1]))\n"
        "try:\n"
        "    for step in range(99): file.write(kind='train', step=step)\n"
        "except UserError as error: print(error)\n"
        "file.close()\n"
    )
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"cannot write metrics to {path} (File too large, ")
    assert "go on with --resume" in done.stdout
    assert path.stat().st_size == 200  # half a line at the end, which a resumed run drops
    MetricsFile(path, after=99).close()
    assert path.read_text().endswith("}\n")


def test_only_failures_to_write_become_errors_for_people(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write x to .* free"), writing("x", tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyError), writing("x", tmp_path):
        raise KeyError
