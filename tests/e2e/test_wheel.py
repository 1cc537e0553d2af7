"""The package as it is installed: all that the command needs, with the C kernels and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = bool(shutil.which("cc")) and sys.platform != "win32"
AUGMENTED = """
import hashlib, torch
from normfree import kernels
from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, RandAugment
from normfree.augment import draw_mix, mix_bytes, normalize

keys, augment = torch.arange(32), RandAugment(4, 10)
noise = torch.Generator().manual_seed(0)
images = torch.randint(256, (64, 3, 30, 40), dtype=torch.uint8, generator=noise)
one, other = images.split(32)
mixed = mix_bytes(one, other, draw_mix(keys, keys > 15, 30, 40))
x = normalize(augment(mixed, augment.draw(keys, 30, 40)), IMAGENET_MEAN, IMAGENET_STD)
print(kernels.status())
print(hashlib.sha256(x.numpy().tobytes()).hexdigest())
"""
#: Type-checked as a user's file: its last line is wrong, which mypy sees only in our types.
TYPED = """
import normfree
from normfree.optim import AGCSGD, EMA, param_groups

model = normfree.create_model("nfnet_f0", num_classes=10)
optimizer = AGCSGD(param_groups(model, weight_decay=2e-5, clipping=0.01), lr=0.1)
EMA(model).update(step=0)
reveal_type(normfree.load("runs/mine"))
normfree.create_model(0)
"""


def python(where: Path, *words: str | Path, **environment: str) -> str:
    """What Python prints, in a folder that is not the checkout."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=where,
        env=inherited | environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def install(where: Path, wheel: Path) -> dict[str, str]:
    """Install a wheel into a folder of its own; the environment in which Python finds it."""
    site = where / f"site-{wheel.parent.name}"
    python(where, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    return {"PYTHONPATH": str(site)}


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def types_of(where: Path, environment: dict[str, str]) -> str:
    """What mypy says of a user's file."""
    (where / "mine.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "mine.py"],
        capture_output=True, text=True, cwd=where, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    return done.stdout


def check_source(archive: Path) -> None:
    """All that the package is built from, and nothing beside it."""
    with tarfile.open(archive) as source:
        members = {name.partition("/")[2] for name in source.getnames()}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "setup.py"} < members
    assert {"normfree/py.typed", "normfree/kernels/csrc/kernels.h"} < members
    foreign = ("tests", "docs", "benchmarks", "examples", "experiments", ".ci")
    assert not [name for name in members if name.startswith(foreign) or name.endswith(".so")]


def test_the_command_and_the_kernels_run_from_the_wheel(tmp_path: Path) -> None:
    # By way of the source distribution, as `pip install` from an index without wheels does.
    python(tmp_path, "-m", "build", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (source,) = (tmp_path / "dist").glob("*.tar.gz")
    check_source(source)
    tag = wheel.stem.split("-", 2)[2]
    assert tag.startswith("py3-none-")  # one for every Python
    assert (tag != "py3-none-any") == COMPILER
    assert ("normfree/kernels/_cpu.so" in names(wheel)) == COMPILER
    assert not [name for name in names(wheel) if name.endswith((".c", ".h", ".o"))]
    assert {"normfree/py.typed", "normfree/serve/page/index.html"} < set(names(wheel))
    installed = install(tmp_path, wheel)
    where = python(tmp_path, "-c", "import normfree; print(normfree.__file__)", **installed)
    assert where.startswith(str(tmp_path))
    main = "from normfree.cli import main; main(['recipes'])"
    assert "fashion_mnist" in python(tmp_path, "-c", main, **installed)
    status, bytes_ = python(tmp_path, "-c", AUGMENTED, **installed).splitlines()
    if COMPILER:
        assert status.startswith("C kernels (")
    switched_off = python(tmp_path, "-c", AUGMENTED, **installed, NORMFREE_KERNELS="0")
    assert switched_off.splitlines() == ["PyTorch's operations: NORMFREE_KERNELS is 0", bytes_]
    info = "from normfree.cli import main; main(['info', '--system'])"
    assert status in python(tmp_path, "-c", info, **installed)
    train = "from normfree.cli import main; main(['train', 'digits', '--smoke', '--out', 'run'])"
    python(tmp_path, "-c", train, **installed, OMP_NUM_THREADS="1")
    assert (tmp_path / "run" / "model.safetensors").is_file()
    said = types_of(tmp_path, installed)
    assert 'Revealed type is "normfree.inference.predictor.Predictor"' in said
    assert 'mine.py:9: error: Argument 1 to "create_model" has incompatible type "int"' in said
    assert "Found 1 error in 1 file" in said


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_working_compiler_the_package_installs(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "source"
    without = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "normfree", source / "normfree", ignore=without)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source)
    python(tmp_path, *build, CC=compiler)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names(wheel) if name.endswith(".so")]
    lines = python(tmp_path, "-c", AUGMENTED, **install(tmp_path, wheel)).splitlines()
    assert lines[0].startswith("PyTorch's operations: kernels were not built with the package")
