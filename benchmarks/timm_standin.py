"""Let timm be imported without torchvision: ``install()`` before ``import timm``.

timm's networks and optimizers compute with PyTorch alone, but its data pipeline and a few options
import names from torchvision, which has no build for every version of PyTorch. Where torchvision
cannot be imported, each of those names becomes an empty class: enough to define timm's pipeline,
not to run it. Only benchmarks use this; nothing of it reaches what is timed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _PlaceholderType(type):
    """Attributes of a placeholder are their own names, as members of an enumeration are."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class Placeholder(metaclass=_PlaceholderType):
    """What stands for every class and function of torchvision."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError("this is a stand-in for torchvision, which is not installed")


class _Module(ModuleType):
    """A module in which every name is a placeholder."""

    __path__: Sequence[str] = ()
    __version__ = "0.0"

    def __getattr__(self, name: str) -> type[Placeholder]:
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder


class _Finder(MetaPathFinder, Loader):
    """Finds ``torchvision`` and every module below it."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "torchvision":
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def install() -> bool:
    """Stand in for torchvision, unless it is installed.

    Returns:
        Whether the stand-in is used.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return True
    if importlib.util.find_spec("torchvision") is not None:
        return False
    sys.meta_path.append(_Finder())
    return True
