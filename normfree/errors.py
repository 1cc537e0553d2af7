"""Errors for users: what is wrong, what was expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: str, most: int | None = None) -> str:
    r"""Escape characters that are not printable, so that a terminal can show the text.

    File and class names are untrusted: they may contain line breaks, terminal escape sequences,
    or bytes that are not UTF-8.

    Args:
        text: any text.
        most: largest number of characters before escaping; longer text is truncated.

    >>> print(printable("cat\x1b[2J\n.jpg"), printable("naïve 犬.jpg"), printable("\udcff"))
    cat\x1b[2J\n.jpg naïve 犬.jpg \udcff
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(ValueError):
    """Invalid input that the user can correct; the CLI prints the message without a traceback.

    Args:
        message: one line; unprintable characters are escaped (see :func:`printable`).

    Attributes:
        exit_code: exit code of the command.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(str(message)))


class UsageError(UserError):
    """An invalid command line."""

    exit_code = 2


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """A signal stopped the run after it saved a checkpoint.

    Args:
        signum: the signal.
        message: what was done, and how to continue.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum


class EndedElsewhere(Exception):  # noqa: N818 - the error is another process's
    """A process ends because another one of the same run did, which says why.

    Args:
        exit_code: exit code of the command.
    """

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__("another process of the run says why it ends")
        self.exit_code = exit_code


class BadImageError(UserError):
    """An image that cannot be read.

    Args:
        name: the file, or ``source[index]`` if there is no file.
        reason: the decoder's message.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = printable(name)
        self.reason = printable(reason)
        super().__init__(
            f"cannot read image {self.name}: {self.reason}; "
            "repair or remove it, or continue without it with --on-bad-image skip"
        )

    def __reduce__(self) -> tuple[type[BadImageError], tuple[str, str]]:
        """Make the error picklable, because worker processes send it to the main process."""
        return type(self), (self.name, self.reason)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for an unknown name, with the closest known names.

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


def one_line(error: BaseException) -> str:
    r"""The message of another library's error on one line, at most 200 characters.

    >>> one_line(ValueError("bad magic\n  at byte 0")), one_line(EOFError())
    ('bad magic at byte 0', 'EOFError')
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
