"""Packages whose names are imported when they are used, so that a command line starts quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package that imports its names from their modules on first use.

    Args:
        package: its ``__name__``.
        homes: module of the package → the names that are public from there, separated by spaces.
            No module may be called like a public name, because importing it would hide the name.

    Example:
        >>> getattr_ = lazy("normfree", {"errors": "UserError printable"})
        >>> getattr_("UserError").__name__
        'UserError'

    Source: PEP 562.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def getattr_(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    return getattr_
