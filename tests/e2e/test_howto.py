"""The how-to pages, command by command, on a few real photographs; training is shortened."""

from __future__ import annotations

import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest

import normfree as package
from normfree.weights import save_model
from tests.e2e.command import normfree

PAGES = Path(__file__).parents[2] / "docs" / "howto"
#: What fits a run into seconds; the last of two equal options counts.
SHORT = (
    *("--epochs", "1", "--batch-size", "8", "--train-size", "16", "--test-size", "16"),
    *("--device", "cpu", "--threads", "1", "--workers", "0", "--no-report"),
)
#: Pages whose commands other tests run, too.
LONG = (("small_data", 5), ("imbalance", 3), ("deploy", 4))
#: Weights that need no network, in place of published ones.
PUBLISHED = ("--init pretrained", "--init weights.safetensors")


def commands(page: str) -> list[str]:
    """The lines of the blocks that are marked ``sh``, also of indented ones."""
    text = (PAGES / f"{page}.md").read_text()
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```", text, re.M | re.S)
    return [line for _, block in blocks for line in textwrap.dedent(block).splitlines()]


def shortened(line: str) -> list[str]:
    """The words of a command, with a small network and one epoch if it trains."""
    program, *words = shlex.split(line.replace(*PUBLISHED))
    assert program == "normfree"
    if words[0] == "train" and "--resume" not in words:
        return [*words, *SHORT, "--model", "nfnet_pico"]
    return words


def globbed(words: list[str], where: Path) -> list[str]:
    """With patterns as a shell fills them in."""
    return [
        path
        for word in words
        for path in (sorted(map(str, where.glob(word))) if "*" in word else [word])
    ]


@pytest.mark.parametrize(
    ("page", "count"),
    [
        *(("own_data", 5), ("finetune", 2), ("resume", 2)),
        *(pytest.param(*page, marks=pytest.mark.slow) for page in LONG),
    ],
)
def test_the_commands_of_a_page(page: str, count: int, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "images")
    save_model(package.create_model("nfnet_pico", num_classes=5), tmp_path / "weights.safetensors")
    lines = commands(page)
    assert len(lines) == count
    for line in lines:
        done = normfree(*globbed(shortened(line), tmp_path), cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    runs = list((tmp_path / "runs").iterdir())
    assert runs
    assert all((run / "model.safetensors").is_file() for run in runs)
