"""Errors that are addressed to a person: what was wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def shown(text: str) -> str:
    r"""Text as a terminal may show it: what cannot be printed is escaped.

    Names of files and of classes come from outside and may hold line breaks, terminal escapes or
    bytes that are not UTF-8.

    >>> print(shown("cat\x1b[2J\n.jpg"), shown("naïve 犬.jpg"), shown("\udcff"))
    cat\x1b[2J\n.jpg naïve 犬.jpg \udcff
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(ValueError):
    """Input that a person can correct; the command line prints its message without a traceback.

    Args:
        message: one line; what cannot be printed is escaped (see :func:`shown`).
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(str(message)))


class BadImageError(UserError):
    """An image that cannot be read.

    Args:
        name: the file, or ``source[index]`` where there is no file.
        reason: what the decoder said.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = shown(name)
        self.reason = shown(reason)
        super().__init__(
            f"cannot read image {self.name}: {self.reason}; "
            "repair or remove it, or continue without it with --on-bad-image skip"
        )

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
