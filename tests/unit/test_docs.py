"""Run the code blocks of the documentation pages in order."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

import pytest
import torch

from normfree.recipes import list_recipes

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "page",
    [
        *("augmentation", "networks", "optimizer", "prediction", "deployment", "training", "data"),
        *("howto/own_network", "howto/convert", "howto/contrastive"),
        *("howto/differential_privacy", "howto/federated", "howto/finetune"),
        *("howto/imbalance", "howto/deploy"),
    ],
)
def test_the_blocks_of_a_page_run_in_order(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.M | re.S)
    assert blocks
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            exec(compile(block, f"{page}.md", "exec"), names)


def test_every_place_of_the_paper_is_there() -> None:
    """Names of the map from the paper to the code are files, public things and recipes."""
    page = (DOCS / "paper.md").read_text()
    for path in re.findall(r"`((?:normfree|tests|benchmarks)/[^`]+)`", page):
        assert (DOCS.parent / path).is_file(), path
    for name in re.findall(r"\{\w+\}`([^`]+)`", page):
        module, _, member = name.rpartition(".")
        assert hasattr(import_module(module), member), name
    patterns = [word for word in re.findall(r"`([^`]+)`", page) if re.match("imagenet_|jft_", word)]
    assert len(patterns) > 10
    for pattern in patterns:
        assert any(fnmatch(name, pattern) for name in list_recipes()), pattern
