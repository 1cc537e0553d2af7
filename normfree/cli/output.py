"""Lines on the terminal, as they are: no markup, no colors, nothing that moves the cursor."""

from __future__ import annotations

import sys

from normfree.errors import printable


def say(text: str, *, stderr: bool = False) -> None:
    """Print a line; what a terminal would obey is escaped, and what it cannot show, too."""
    stream = sys.stderr if stderr else sys.stdout
    encoding = stream.encoding or "utf-8"
    line = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    stream.write(f"{line}\n")
