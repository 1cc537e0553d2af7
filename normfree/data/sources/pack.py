"""``pack:FILE``: a file that ``normfree pack`` made."""

from __future__ import annotations

from pathlib import Path

from normfree.data.pack import PackSource, open_pack, read_header
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import Split


def _splits(argument: str) -> tuple[Split, ...]:
    return tuple(read_header(Path(argument).expanduser()).splits)


@register_source("pack", "FILE", splits=_splits)
def open_packed(argument: str, split: Split, opening: Opening) -> PackSource:
    """The images of a pack, without reading them.

    Args:
        argument: ``FILE``.
        split: one of those that the pack was made with.
        opening: limits of the sizes; the classes are the pack's own.

    Raises:
        UserError: the file cannot be read, is damaged, or has no such split.
    """
    return open_pack(Path(argument).expanduser(), split, opening.limits)
