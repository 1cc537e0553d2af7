"""Errors that are addressed to a person: what was wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: str, most: int | None = None) -> str:
    r"""Text as a terminal may show it: what cannot be printed is escaped.

    Names of files and of classes come from outside and may hold line breaks, terminal escapes or
    bytes that are not UTF-8.

    Args:
        text: of any kind.
        most: characters of it that are shown.

    >>> print(printable("cat\x1b[2J\n.jpg"), printable("naïve 犬.jpg"), printable("\udcff"))
    cat\x1b[2J\n.jpg naïve 犬.jpg \udcff
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(ValueError):
    """Input that a person can correct; the command line prints its message without a traceback.

    Args:
        message: one line; what cannot be printed is escaped (see :func:`printable`).

    Attributes:
        exit_code: of the command.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(str(message)))


class UsageError(UserError):
    """A command line that cannot be understood."""

    exit_code = 2


class Interrupted(Exception):  # noqa: N818 - not an error: what was asked for
    """A run stopped because a signal asked it to; its checkpoint is saved.

    Args:
        signum: the signal.
        message: what was done, and how to go on.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum


class BadImageError(UserError):
    """An image that cannot be read.

    Args:
        name: the file, or ``source[index]`` where there is no file.
        reason: what the decoder said.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = printable(name)
        self.reason = printable(reason)
        super().__init__(
            f"cannot read image {self.name}: {self.reason}; "
            "repair or remove it, or continue without it with --on-bad-image skip"
        )

    def __reduce__(self) -> tuple[type[BadImageError], tuple[str, str]]:
        """Survive the trip from a loader's worker process."""
        return type(self), (self.name, self.reason)


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
