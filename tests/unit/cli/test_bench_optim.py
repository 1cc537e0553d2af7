"""``normfree bench optim``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.unit.cli.test_bench import Capture, run


def test_ours_beside_torch(tmp_path: Path, capsys: Capture) -> None:
    file, threads = tmp_path / "new" / "found.json", torch.get_num_threads()
    words = ("--model", "nfnet_pico", "--largest-axis", "4", "--rounds", "3", "--threads", "1")
    assert run("optim", *words, "--json", str(file)) == 0
    assert torch.get_num_threads() == threads
    found = json.loads(file.read_text())
    assert (found["benchmark"], found["model"], found["threads"]) == ("optim", "nfnet_pico", 1)
    assert (found["tensors"], found["largest_axis"]) == (114, 4)
    assert 0 < found["elements"] <= 114 * 4**4
    rows = {row["optimizer"]: row for row in found["results"]}
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)
    assert rows["torch SGD foreach + norms"]["cost"] == 1
    for row in rows.values():
        seconds = row["seconds"]
        assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
        assert seconds["calls"] == 3
    operations = {name: row["operations"] for name, row in rows.items()}
    assert operations["torch SGD foreach"] < operations["AGCSGD foreach"]
    assert operations["AGCSGD foreach"] < operations["AGCSGD reference"] / 3
    assert operations["AGCSGD fused"] < operations["AGCSGD foreach"]
    both = operations["torch SGD foreach"] + operations["norms"]
    assert operations["torch SGD foreach + norms"] == both


def test_all_weight_work_beside_a_copy_of_its_bytes(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "found.json"
    words = ("--model", "nfnet_pico", "--largest-axis", "4", "--rounds", "2", "--weights")
    assert run("optim", *words, "--json", str(file)) == 0
    found = json.loads(file.read_text())
    assert found["tensors"] == 114
    assert 0 < found["standardized"] < 114
    assert 0 < found["bytes_standardization"] < found["bytes_update"]
    rows = {row["optimizer"]: row for row in found["results"]}
    assert rows["copy of the same bytes"]["cost"] == 1
    assert rows["all, kernels"]["operations"] < rows["all, PyTorch"]["operations"]
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rounds", "1"), "--rounds must be at least 2, not 1"),
        (("--largest-axis", "0"), "--largest-axis must be at least 1, not 0"),
        (("--threads", "0"), "--threads must be from 1 to"),
        (("--threads", "100000"), "--threads must be from 1 to"),
        (("--model", "nfnet_f00"), "did you mean nfnet_f0"),
    ],
)
def test_what_cannot_be_measured_is_said(
    words: tuple[str, ...], message: str, capsys: Capture
) -> None:
    assert run("optim", *words) in (1, 2)
    assert message in capsys.readouterr().err
