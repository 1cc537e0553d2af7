"""Errors that are addressed to a person: what was wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Input that a person can mend; the command line prints its message without a traceback."""


class BadImageError(UserError):
    """An image that cannot be read.

    Args:
        name: the file, or ``source[index]`` where there is no file.
        reason: what the decoder said.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"cannot read image {name}: {reason}; "
            "mend or remove it, or go on without it with --on-bad-image skip"
        )
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadImageError], tuple[str, str]]:
        """Survive the trip from a loader's worker process."""
        return type(self), (self.name, self.reason)


def printable(text: str, most: int = 2000) -> str:
    r"""Text of a file as a terminal may show it: what would move its cursor is escaped.

    >>> print(printable("cat\x1b[2J"))
    cat\x1b[2J
    """
    if len(text) > most:
        text = text[: most - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest ones that do.

    >>> print(unknown_name("model", "nfnet_f00", ["nfnet_f0", "nfnet_f1"]))
    unknown model 'nfnet_f00'; did you mean nfnet_f0, nfnet_f1?
    >>> print(unknown_name("source", "zip", ["digits", "idx"]))
    unknown source 'zip'; known: digits, idx
    """
    known = sorted(known)
    name = name[:100]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
