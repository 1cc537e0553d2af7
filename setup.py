"""Build the C kernels, where there is a compiler; all else stands in pyproject.toml.

The library has no Python API: ``normfree.kernels`` calls plain C functions through ctypes. So
building it needs no Python headers, and one wheel for each platform (``py3-none-…``) serves every
Python. Without a compiler, or where it fails, the package installs without the library, and
PyTorch's operations give the same bytes.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SOURCES = runpy.run_path(str(ROOT / "normfree" / "kernels" / "sources.py"))
FILES = [path.relative_to(ROOT).as_posix() for path in SOURCES["sources"]()]
BYTES_STAY_THE_SAME = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
LIBRARY = Extension(
    "normfree.kernels._cpu",
    sources=[path for path in FILES if path.endswith(".c")],
    depends=FILES,
    define_macros=[("NORMFREE_SOURCES", f'"{SOURCES["digest"]()}"')],
    extra_compile_args=["-std=c99", "-O3", *BYTES_STAY_THE_SAME, "-fvisibility=hidden", "-pthread"],
    extra_link_args=["-pthread"],
    libraries=["m"],
    optional=True,
)


class Library(build_ext):
    """An extension without a Python API: its file is named alike for every Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """``_cpu.so``, without Python's version."""
        return str(Path(*fullname.split("."))) + ".so"

    def run(self) -> None:
        """Build, with a compiler that is here where Python's own is not."""
        named = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
        if not shutil.which(named):
            here = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
            os.environ.setdefault("CC", here or named)
        super().run()


class Wheel(bdist_wheel):
    """``py3-none-PLATFORM`` with the library, ``py3-none-any`` without it."""

    def get_tag(self) -> tuple[str, str, str]:
        """For any version of Python."""
        built = all(
            Path(file).exists() for file in self.get_finalized_command("build_ext").get_outputs()
        )
        return ("py3", "none", super().get_tag()[2] if built else "any")


setup(
    ext_modules=[] if sys.platform == "win32" else [LIBRARY],  # the threads are POSIX's
    cmdclass={"build_ext": Library, "bdist_wheel": Wheel},
)
