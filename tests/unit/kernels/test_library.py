"""The kernel status and its reasons; an untrusted library is not used."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from normfree import kernels
from normfree.augment import RandAugment
from normfree.augment.randaugment import OPERATIONS
from normfree.augment.registry import TABLE
from normfree.kernels import library, sources
from normfree.kernels.randaugment import _kinds

needs_kernels = pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))


@pytest.fixture
def fresh(monkeypatch):
    """Reset the cached library before and after a test."""
    monkeypatch.setattr(library, "_load", library.cache(library._load.__wrapped__))
    monkeypatch.delenv(library.VARIABLE, raising=False)


def augmented():
    augment = RandAugment(2, 10)
    images = torch.arange(4 * 3 * 36).view(4, 3, 6, 6).to(torch.uint8)
    return augment(images, augment.draw(torch.arange(4), 6, 6))


@pytest.mark.skipif(sys.platform == "win32", reason="kernels are not built there")
@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_kernels_are_built_if_there_is_a_compiler(fresh):
    """Otherwise, the kernel tests would be skipped silently."""
    assert kernels.status().reason == "", "reinstall, or run: python setup.py build_ext --inplace"


@needs_kernels
def test_the_best_instruction_set_is_in_use(fresh):
    assert kernels.status().instruction_set == next(filter(library.use, ("avx512", "avx2", "neon")))
    assert library.use("sse9") == ""
    assert library.use() == kernels.status().instruction_set
    assert str(kernels.status()) == f"C kernels ({library.use()})"


def test_kernels_can_be_switched_off(fresh, monkeypatch):
    expected = augmented()
    monkeypatch.setenv("NORMFREE_KERNELS", "0")
    monkeypatch.setattr(library, "_load", lambda: pytest.fail("kernels were loaded"))
    assert str(kernels.status()) == "PyTorch's operations: NORMFREE_KERNELS is 0"
    assert not kernels.available()
    assert torch.equal(augmented(), expected)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("not built", "not built with the package"),
        ("not a library", "_cpu.so cannot be loaded"),
        ("another library", "_cpu.so cannot be loaded"),
        ("other sources", "built from other sources; reinstall normfree"),
        ("other processor", "neither AVX2 with FMA nor NEON"),
    ],
)
def test_without_kernels_pytorch_operations_are_used(trouble, reason, fresh, tmp_path, monkeypatch):
    expected, file = augmented(), tmp_path / "_cpu.so"
    library._load.cache_clear()
    match trouble:
        case "not a library":
            file.write_text("no library\n")
        case "another library":
            shutil.copy(next(Path(torch.__file__).parent.glob("lib/libshm.*")), file)
        case _ if trouble != "not built" and not library.FILE.exists():
            pytest.skip("no library was built")
        case "other sources":
            shutil.copy(library.FILE, file)
            monkeypatch.setattr(sources, "digest", lambda: "0123456789abcdef")
        case "other processor":
            shutil.copy(library.FILE, file)
            monkeypatch.setattr(library, "_best", lambda kernels: "")
    monkeypatch.setattr(library, "FILE", file)
    assert not kernels.available()
    assert str(kernels.status()).startswith("PyTorch's operations: ")
    assert reason in kernels.status().reason
    assert torch.equal(augmented(), expected)


def test_every_change_of_the_sources_is_noticed(tmp_path, monkeypatch):
    folder = tmp_path / "csrc"
    shutil.copytree(Path(__file__).parents[3] / "normfree" / "kernels" / "csrc", folder)
    monkeypatch.setattr(sources, "FOLDER", folder)
    found = {sources.digest()}
    for path in sources.sources():
        path.write_text(path.read_text() + "\n")
        found.add(sources.digest())
    sources.sources()[0].rename(folder / "renamed.c")
    found.add(sources.digest())
    assert len(found) == 2 + len(sources.sources())
    shutil.rmtree(folder)
    assert sources.digest() is None


@needs_kernels
def test_kernels_and_operations_match():
    named = {TABLE[name].kernel for name in OPERATIONS}
    assert None not in named
    assert named - {"move"} == {*_kinds()} - {"move_pixels", "move_runs"}
