"""Where files are kept that can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path

from normfree.errors import UserError


def cache_home() -> Path:
    """``$NORMFREE_CACHE``, or ``normfree`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``.

    Raises:
        UserError: there is no home directory.
    """
    if given := os.environ.get("NORMFREE_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "normfree"
    except RuntimeError as error:
        raise UserError(f"there is no place for a cache: {error}; set NORMFREE_CACHE") from None
